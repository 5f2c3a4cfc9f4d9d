-- A put while nobody waits: ARGV from 4 on say which.
if h.present == 0 then
  local why, row = change(put_at(4))
  return answer(why, row)
end
