-- Write the note if the version is still this one. ARGV: 3 also version and open, 4 the text,
-- 5 the bell that all hear, 6 what it says.
local _, version, open = read('>ddd', ARGV[3])
settle()
if version == h.note then
  call('HSET', NAMES, 'n', ARGV[4])
  h.note, h.noted, h.open = h.note + 1, now, open
  call(ARGV[2], ARGV[5], ARGV[6])
  serve()
end
keep_waiters()
return refuse('read')
