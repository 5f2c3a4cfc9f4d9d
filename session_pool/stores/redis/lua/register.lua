-- A lease of another epoch, told by its holder (B27). ARGV: 3 also version, fence, pinned,
-- expires in, fresh in, ttl; 4 id, 5 rid, 6 agent version, 7 conversation, 8 holder, 9 lease,
-- 10 facts, 11 the key.
local _, version, fence, pinned, expires_in, fresh_in, ttl = read('>ddddddd', ARGV[3])
local id, held_talk, leased_by, key = ARGV[4], ARGV[7], ARGV[9], ARGV[11]
remember_length(ttl)
settle()
local row = row_of(id)
if row and (row.key ~= key or MEMORY[row.state]) then
  row = nil
elseif row and row.state == 'leased' then
  if row.lease == leased_by and row.lapses > now then
    lift(row)
    row.lapses = now + ttl
    row.deadline = row.lapses
    lay(row)
  else
    row = nil
  end
else
  if not row or row.rid == '' then -- an older state may have it without its session yet
    add_up('[["adopted",1]]')
  end
  if not row then
    row = blank(id)
    row.key = key
    rows[id] = row
  end
  lift(row)
  row.state, row.version = 'leased', math.max(row.version, version) + 1
  row.fence = grown(math.max(row.fence, fence))
  row.rid, row.agent, row.pinned, row.facts = ARGV[5], ARGV[6], pinned, ARGV[10]
  row.holder, row.lease, row.op = ARGV[8], leased_by, leased_by
  row.lapses, row.since = now + ttl, now
  row.deadline, row.fresh, row.expires = row.lapses, now + fresh_in, now + expires_in
  row.hand, row.hand_before = '', ''
  if row.talk == '' and not own(held_talk) then row.talk = held_talk end
  lay(row)
end
if row then promote(row.talk) end
serve()
keep_waiters()
return finish('done', row and text_of(row) or '')
