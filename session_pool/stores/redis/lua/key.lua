-- What one pool key has: its head (caps, counts, numbers), its entries, and where each is found.
--
-- The head is one text. `NAMES` is a hash: o<conversation> the entry it has, l<request> the entry
-- leased by it, w<request> a waiter, p<conversation> who stands for it in a line, d<request> until
-- when it stays withdrawn, n the note. `INDEX` is a sorted set in the order of its bytes (numbers
-- as big-endian doubles): F<expires><id> free and not pinned, V<version>\0<expires><id> free,
-- S<state>\0<since><id> all, M<conversation>\0<seq><id> memories, R<rid>\0<id>, and what `lines`
-- says of who waits. So a state or a version costs no key of its own, and all keys are declared.
local HEAD, NAMES, INDEX = KEYS[4], KEYS[5], KEYS[6]
local FREE = {idle = true, ageing = true}
local MEMORY = {retiring = true, gone = true}
local SHAPE = '>ddddddd' .. 'I4I4I4I4' .. 'I4I4I4I4I4I4I4I4I4I4'
local LOOKS = 2000 -- free entries looked through while the store is calm

local h, count, tally = {}, {}, ''
local head = call('GET', HEAD)
if head then
  local at
  h.cap, h.most, h.place, h.note, h.noted, h.seq, h.calm, h.open, h.present, h.standing, h.wanting,
    count.creating, count.unsettled, count.idle, count.ageing, count.leased, count.parked,
    count.quarantined, count.retiring, count.gone, count.chore, at = read(SHAPE, head)
  tally = string.sub(head, at)
else
  h = {
    cap = 0, most = 0, place = 0, note = 0, noted = 0, seq = 0, calm = 0, open = 1, present = 0,
    standing = 0, wanting = 0,
  }
  count = {
    creating = 0, unsettled = 0, idle = 0, ageing = 0, leased = 0, parked = 0, quarantined = 0,
    retiring = 0, gone = 0, chore = 0,
  }
end

local rows, changed = {}, {} -- by id: as it is by now; false where there is none

local function row_of(id)
  local row = rows[id]
  if row == nil then
    local text = call('HGET', ENTRIES, id)
    row = text and parse(text) or false
    rows[id] = row
  end
  return row
end

local function own(talk)
  if talk == '' then return nil end
  local id = call('HGET', NAMES, 'o' .. talk)
  return id and row_of(id) or nil
end

-- Whether a conversation may have its own now.
local function ready(row)
  return row.state == 'parked' and not (still and row.since < began)
end

-- The free entry that ends first, of those of a version ('' for the latest) that live until then.
local function free(version, least)
  local tag = version == '' and 'F' or 'V' .. version .. '\0'
  local from, to, skip = '[' .. tag .. write('>d', least), '(' .. tag .. '\255', #tag + 9
  if not still then
    local found = call('ZRANGEBYLEX', INDEX, from, to, 'LIMIT', 0, 1)[1]
    return found and row_of(string.sub(found, skip)) or nil
  end
  for at = 0, LOOKS - 1, 100 do
    local found = call('ZRANGEBYLEX', INDEX, from, to, 'LIMIT', at, 100)
    for i = 1, #found do
      local row = row_of(string.sub(found[i], skip))
      if row and row.since >= began then return row end
    end
    if #found < 100 then return nil end
  end
end

-- The memory of the session that a conversation had last, as it is kept; '' for none.
local function memory(talk)
  if talk == '' then return '' end
  local tag = 'M' .. talk .. '\0'
  local found = call('ZREVRANGEBYLEX', INDEX, '(' .. tag .. '\255', '[' .. tag, 'LIMIT', 0, 1)[1]
  if not found then return '' end
  local row = row_of(string.sub(found, #tag + 9))
  return row and text_of(row) or ''
end

-- Its members of `INDEX`: by state; by version or as a memory; among those for the latest; by RID.
local function marks(row)
  local state, id = row.state, row.id
  if not state then return nil, nil, nil, nil end
  local by_state, other, latest, by_rid = 'S' .. state .. '\0' .. write('>d', row.since) .. id
  if FREE[state] then
    local tail = write('>d', row.expires) .. id
    other = 'V' .. row.agent .. '\0' .. tail
    if row.pinned == 0 then latest = 'F' .. tail end
  elseif MEMORY[state] and row.talk ~= '' then
    other = 'M' .. row.talk .. '\0' .. write('>d', row.seq) .. id
  end
  if row.rid ~= '' then by_rid = 'R' .. row.rid .. '\0' .. id end
  return by_state, other, latest, by_rid
end

-- An entry's place in every index is taken up before it changes and laid down after, so that none
-- can disagree with it. A state of nil is an entry that is not there.
local function lift(row)
  local was = {state = row.state, talk = row.talk, lease = row.lease, deadline = row.deadline}
  was.by_state, was.other, was.latest, was.by_rid = marks(row)
  row.was, row.text = was, nil
  return row
end

local function bind(row, was)
  local id, talk = row.id, row.talk
  local had = was.state and was.talk ~= '' and not MEMORY[was.state]
  local has = row.state and talk ~= '' and not MEMORY[row.state]
  if had and not (has and talk == was.talk) then
    if call('HGET', NAMES, 'o' .. was.talk) == id then call('HDEL', NAMES, 'o' .. was.talk) end
  end
  if has and not (had and talk == was.talk) then call('HSET', NAMES, 'o' .. talk, id) end
  if was.lease ~= row.lease then
    if was.lease ~= '' then call('HDEL', NAMES, 'l' .. was.lease) end
    if row.lease ~= '' then call('HSET', NAMES, 'l' .. row.lease, id) end
  end
end

local function lay(row)
  local was, id, state = row.was, row.id, row.state
  if was.state ~= state then
    if was.state then count[was.state] = count[was.state] - 1 end
    if state then count[state] = count[state] + 1 end
  end
  local remembered = was.state and MEMORY[was.state] and was.talk ~= ''
  if state and MEMORY[state] and row.talk ~= '' and not remembered then
    h.seq = h.seq + 1
    row.seq = h.seq
  end
  local come, gone = {}, {}
  local function trade(before, after)
    if before == after then return end
    if before then gone[#gone + 1] = before end
    if after then
      come[#come + 1] = 0
      come[#come + 1] = after
    end
  end
  local by_state, other, latest, by_rid = marks(row)
  trade(was.by_state, by_state)
  trade(was.other, other)
  trade(was.latest, latest)
  trade(was.by_rid, by_rid)
  if #gone > 0 then call('ZREM', INDEX, unpack(gone)) end
  if #come > 0 then call('ZADD', INDEX, unpack(come)) end
  bind(row, was)
  if was.deadline ~= row.deadline then deadline_is(id, row.deadline) end
  changed[id] = true
end

local function take_back(row, state, op)
  row.state, row.version, row.holder, row.lease, row.lapses = state, row.version + 1, '', '', FOREVER
  row.since, row.op, row.hand, row.hand_before = now, op, '', ''
end

local function lease(row, want, request, place)
  lift(row)
  row.hand, row.hand_deadline, row.hand_place, row.hand_before = row.state, row.deadline, place, ''
  row.state, row.version, row.fence = 'leased', row.version + 1, grown(row.fence)
  row.holder, row.lease, row.op, row.talk = want.holder, request, request, want.talk
  row.lapses, row.since = now + want.ttl, now
  row.deadline = row.lapses
  lay(row)
end

-- Take back a lease that nobody saw: it is what it was before, but for its spent fence.
local function undo(row)
  if row.hand == '' then return end -- it was registered, so it was seen
  lift(row)
  local before, deadline = row.hand_before, row.hand_deadline
  take_back(row, row.hand, '')
  row.deadline = deadline
  if FREE[row.state] then row.talk = '' end
  if before ~= '' then
    local kept = cjson.decode(before)
    row.fresh, row.expires = tonumber(kept[1]), tonumber(kept[2])
    row.facts, row.rid, row.agent, row.pinned = kept[3], kept[4], kept[5], kept[6]
  end
  lay(row)
end

local rings = {} -- what is to be told, by bell
local function ring(bell, request)
  rings[bell] = rings[bell] and rings[bell] .. '\0' .. request or request
end

-- Write what has changed, and answer with the head: the counts are in it.
local function finish(...)
  for id in pairs(changed) do
    local row = rows[id]
    if row then call('HSET', ENTRIES, id, row.text or text_of(row)) else call('HDEL', ENTRIES, id) end
  end
  local after = write(
    SHAPE, h.cap, h.most, h.place, h.note, h.noted, h.seq, h.calm, h.open, h.present, h.standing,
    h.wanting, count.creating, count.unsettled, count.idle, count.ageing, count.leased,
    count.parked, count.quarantined, count.retiring, count.gone, count.chore
  ) .. tally
  if after ~= head then call('SET', HEAD, after) end
  for bell, requests in pairs(rings) do call(ARGV[2], bell, requests) end
  return {after, ...}
end

local function grant(row)
  local place = row.hand ~= '' and row.hand_place or 0
  row.text = text_of(row)
  return finish('grant', row.text, memory(row.talk), write('>dd', place, now))
end

local function refuse(why, need)
  local note = call('HGET', NAMES, 'n') or ''
  return finish('refusal', why, need or 'new', note, write('>d', now - h.noted))
end
