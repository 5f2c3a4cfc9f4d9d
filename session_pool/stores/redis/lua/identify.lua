-- Whose token a principal uses. KEYS 4: identities; ARGV: 4 the principal, 5 the identity.
call('HSETNX', KEYS[4], ARGV[4], ARGV[5])
return {'', call('HGET', KEYS[4], ARGV[4])}
