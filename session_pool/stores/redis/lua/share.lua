-- A part of a principal's limit (B13). KEYS 4: its shares by holder; ARGV: 3 also limit, wish, for
-- how long; 4 the holder. A share is: granted, wish, limit, ends, its turn among those who lack.
local SHARES, holder = KEYS[4], ARGV[4]
local _, limit, wish, for_s = read('>dddd', ARGV[3])
local told, before, turn_was = call('HGETALL', SHARES), nil, 0
local others, ended = {}, {}
for i = 1, #told, 2 do
  local who = told[i]
  if who == '' then
    turn_was = read('>d', told[i + 1])
  else
    local one = {}
    one.granted, one.wish, one.limit, one.ends, one.turn = read('>ddddd', told[i + 1])
    if one.ends <= now then
      ended[#ended + 1] = who
    elseif who == holder then
      before = one
    else
      others[#others + 1] = one
    end
  end
end

local least, used, lacking, earlier = limit, 0, 0, 0
local turn = before and before.turn or 0
for _, one in ipairs(others) do
  local lacks = one.wish - one.granted
  least, used, lacking = math.min(least, one.limit), used + one.granted, lacking + lacks
  if one.turn > 0 and (turn == 0 or one.turn < turn) then earlier = earlier + lacks end
end
local free, kept = least - used, before and math.min(before.granted, wish) or 0
local granted = math.max(0, math.min(free, math.max(kept, math.min(wish, free - earlier))))
for at = 1, #ended, 1000 do
  call('HDEL', SHARES, unpack(ended, at, math.min(#ended, at + 999)))
end
if granted >= wish then
  turn = 0
elseif turn == 0 then
  turn = turn_was + 1
  call('HSET', SHARES, '', write('>d', turn))
end
if wish > 0 then
  call('HSET', SHARES, holder, write('>ddddd', granted, wish, limit, now + for_s, turn))
else
  call('HDEL', SHARES, holder)
end
return {'', write('>dd', granted, lacking)}
