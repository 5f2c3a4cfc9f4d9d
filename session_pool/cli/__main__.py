"""`python -m session_pool.cli`, the same as `session-pool`."""

from session_pool.cli import main

main()
