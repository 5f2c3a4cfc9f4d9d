-- Leave the line, or undo the grant; ARGV 4 is the request.
local TOMBSTONE_S = 60 -- longer than any take can be on its way
local request = ARGV[4]
settle()
local old = call('ZRANGEBYLEX', INDEX, '[D', '(D' .. write('>d', now) .. '\255', 'LIMIT', 0, 100)
for _, member in ipairs(old) do
  call('HDEL', NAMES, 'd' .. string.sub(member, 10))
  call('ZREM', INDEX, member)
end
local asked = call('HMGET', NAMES, 'l' .. request, 'd' .. request)
if asked[2] then call('ZREM', INDEX, 'D' .. asked[2] .. request) end
local ends = write('>d', now + TOMBSTONE_S)
call('HSET', NAMES, 'd' .. request, ends)
call('ZADD', INDEX, 0, 'D' .. ends .. request)
local w = waiter_of(request)
if w then
  leave(w)
elseif asked[1] then -- a hit whose answer nobody saw
  local row = row_of(asked[1])
  if row then take_away(row) end
end
serve()
keep_waiters()
return finish('done')
