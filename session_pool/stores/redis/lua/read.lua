-- The counts and the note.
settle()
keep_waiters()
return refuse('read')
