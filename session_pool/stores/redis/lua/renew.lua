-- Prolong leases. ARGV: 3 also ttl, 4 the fences, 5 the holder, from 6 on ids.
local _, ttl = read('>dd', ARGV[3])
remember_length(ttl)
local held = {}
for i = 6, #ARGV do
  local text = call('HGET', ENTRIES, ARGV[i])
  local row, fence = text and parse(text), read('>d', ARGV[4], (i - 6) * 8 + 1)
  held[i - 5] = '0'
  if row and row.state == 'leased' and row.holder == ARGV[5] and row.fence == fence
    and row.lapses > now
  then
    row.lapses = now + ttl
    row.deadline = row.lapses
    call('HSET', ENTRIES, row.id, text_of(row))
    deadline_is(row.id, row.deadline)
    held[i - 5] = '1'
  end
end
return {'', table.concat(held)}
