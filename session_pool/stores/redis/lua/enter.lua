-- Learn which epoch the store has, or begin one (B27). KEYS: 1 meta. ARGV: 1 the epoch that the
-- asker knows ('' for none), 2 the schema it speaks, 3 numbers: the time or -1, and its longest
-- lease; 4 a name for a new epoch, 5 the server's identity, 6 whether a store is begun.
local known, speaks, name, server = ARGV[1], tonumber(ARGV[2]), ARGV[4], ARGV[5]
local now, longest = struct.unpack('>dd', ARGV[3])
if now < 0 then
  local time = redis.call('TIME')
  now = (time[1] * 1000000 + time[2]) / 1000000
end

local meta = redis.call('GET', KEYS[1])
if not meta and ARGV[6] == '0' then return {'unbegun', ''} end
local schema, began, calm, length, epoch, was = speaks, now, 0, longest, name, server
if meta then
  schema, began, calm, length, epoch, was = struct.unpack('>ddddss', meta)
  if schema ~= speaks then return {'schema', tostring(schema)} end
  length = math.max(length, longest)
end
-- What a lost or older state does not tell, its holders have so long to tell.
local quiet = now + math.max(1, length)
if not meta then
  if known ~= '' then calm = quiet end
elseif was ~= server then
  began, calm, epoch, was = now, quiet, name, server
elseif known ~= '' and known ~= epoch and calm == 0 then
  calm = quiet
end
local after = struct.pack('>ddddss', schema, began, calm, length, epoch, was)
if after ~= meta then redis.call('SET', KEYS[1], after) end
return {'epoch', epoch}
