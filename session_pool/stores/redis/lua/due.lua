-- Claim what is due, across keys, by moving its deadline. ARGV: 3 also limit and for how long.
local _, limit, for_s = read('>ddd', ARGV[3])
local found = {}
local ids = call('ZRANGEBYSCORE', DUE, '-inf', now, 'LIMIT', 0, limit)
for _, id in ipairs(ids) do
  local text = call('HGET', ENTRIES, id)
  if text then
    found[#found + 1] = text
    local row = parse(text)
    row.deadline = now + for_s
    call('HSET', ENTRIES, id, text_of(row))
    deadline_is(id, row.deadline)
  else
    call('ZREM', DUE, id)
  end
end
local soonest = call('ZRANGE', DUE, 0, 0, 'WITHSCORES')[2]
local next_in = soonest and math.max(0, tonumber(soonest) - now) or FOREVER
return {'', found, write('>dd', now, next_in)}
