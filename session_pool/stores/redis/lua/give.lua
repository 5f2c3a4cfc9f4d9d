-- A put while nobody waits; ARGV 3 is the time, and the put.
if h.present == 0 then
  local why, row = change(put_of(ARGV[3], 9))
  return answer(why, row)
end
