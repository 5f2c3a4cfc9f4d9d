-- How every operation begins: which epoch, what time, and how an entry is read and written.
--
-- KEYS: 1 meta, 2 entries, 3 due; on one pool key also 4 head, 5 names, 6 index.
-- ARGV: 1 the epoch that the asker knows, 2 the command that rings a bell, 3 numbers, of which the
--       first is the time, or below 0 for the server's own; then what the operation needs.
-- Nothing is written before all has been decided that could refuse; every loop has its bound.
local call, write, read = redis.call, struct.pack, struct.unpack
local META, ENTRIES, DUE = KEYS[1], KEYS[2], KEYS[3]
local FOREVER = math.huge

local meta = call('GET', META)
if not meta then return {'epoch'} end
local schema, began, calm, longest, epoch, server = read('>ddddss', meta)
if epoch ~= ARGV[1] then return {'epoch'} end

local now, micros = (read('>d', ARGV[3])), nil
if now < 0 then
  local time = call('TIME')
  micros = time[1] * 1000000 + time[2]
  now = micros / 1000000
end
local still = now < calm -- what came into its state before the epoch is handed to nobody (B27)

-- A number that grows, even if the last writes were lost with the server that took them.
local function grown(number)
  number = number + 1
  if micros and micros > number then return micros end
  return number
end

-- The longest lease is how long a later epoch stays calm.
local function remember_length(ttl)
  if ttl ~= FOREVER and ttl > longest then
    longest = ttl
    call('SET', META, write('>ddddss', schema, began, calm, longest, epoch, server))
  end
end

local ROW = '>ddddddddddd' .. 'ssssssssssss'

local function parse(text)
  local row = {}
  row.version, row.fence, row.lapses, row.since, row.fresh, row.expires, row.deadline, row.pinned,
    row.hand_place, row.hand_deadline, row.seq, row.id, row.state, row.rid, row.agent, row.talk,
    row.holder, row.lease, row.op, row.facts, row.key, row.hand, row.hand_before = read(ROW, text)
  return row
end

local function text_of(row)
  return write(
    ROW, row.version, row.fence, row.lapses, row.since, row.fresh, row.expires, row.deadline,
    row.pinned, row.hand_place, row.hand_deadline, row.seq, row.id, row.state, row.rid, row.agent,
    row.talk, row.holder, row.lease, row.op, row.facts, row.key, row.hand, row.hand_before
  )
end

local function deadline_is(id, deadline)
  if deadline == FOREVER then
    call('ZREM', DUE, id)
  else
    call('ZADD', DUE, deadline, id)
  end
end
