-- Entries of a key. ARGV: 3 also how many at most, 4 a RID, 5 a conversation, from 6 on states.
local _, limit = read('>dd', ARGV[3])
local rid, talk, states, asked = ARGV[4], ARGV[5], {}, {}
local STATES = {
  'creating', 'unsettled', 'idle', 'ageing', 'leased', 'parked', 'quarantined', 'retiring', 'gone',
  'chore',
}
settle()
keep_waiters()
for i = 6, #ARGV do
  if not asked[ARGV[i]] then states[#states + 1] = ARGV[i] end
  asked[ARGV[i]] = true
end
if #states == 0 then
  states = STATES
  for _, state in ipairs(STATES) do asked[state] = true end
end

local found = {}
local function take_down(row)
  if row and asked[row.state] and #found < limit then found[#found + 1] = text_of(row) end
end

if rid ~= '' or talk ~= '' then
  local tag, at = 'R' .. rid .. '\0', 1
  if rid == '' then
    tag, at = 'M' .. talk .. '\0', 9
    take_down(own(talk))
  end
  local members = call('ZREVRANGEBYLEX', INDEX, '(' .. tag .. '\255', '[' .. tag, 'LIMIT', 0, 10000)
  for _, member in ipairs(members) do
    local row = row_of(string.sub(member, #tag + at))
    if rid == '' or talk == '' or (row and row.talk == talk) then take_down(row) end
  end
  return finish('found', found)
end

local members = {}
for number, state in ipairs(states) do
  local tag = 'S' .. state .. '\0'
  local all = call('ZRANGEBYLEX', INDEX, '[' .. tag, '(' .. tag .. '\255', 'LIMIT', 0, limit)
  for i, member in ipairs(all) do
    members[#members + 1] = {
      since = (read('>d', member, #tag + 1)), turn = number * 1e9 + i,
      id = string.sub(member, #tag + 9),
    }
  end
end
table.sort(members, function(a, b)
  if a.since ~= b.since then return a.since < b.since end
  return a.turn < b.turn
end)
for i = 1, math.min(limit, #members), 500 do
  local ids = {}
  for j = i, math.min(limit, #members, i + 499) do ids[#ids + 1] = members[j].id end
  for j, text in ipairs(call('HMGET', ENTRIES, unpack(ids))) do
    -- What this operation itself has changed is written when it ends.
    local row = rows[ids[j]]
    if row then text = text_of(row) end
    if text then found[#found + 1] = text end
  end
end
return finish('found', found)
