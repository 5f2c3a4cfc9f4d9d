-- How one entry changes: by compare-and-set, if all guards hold (`Put`).
local function counted(name)
  if name == 'waiting' then return h.standing end
  if name == 'note' then return h.note end
  if name == 'new' then return math.max(0, math.min(h.wanting, h.cap - count.leased)) end
  return count[name] or 0
end

local function allowed(guards)
  if guards == '' then return true end
  for _, guard in ipairs(cjson.decode(guards)) do
    local sum = 0
    for _, name in ipairs(guard[1]) do sum = sum + counted(name) end
    for _, name in ipairs(guard[2]) do sum = sum - counted(name) end
    if sum > guard[3] then return false end
  end
  return true
end

-- Running totals, as name=number; kept in the head.
local function add_up(sums)
  if sums == '' then return end
  local totals, names = {}, {}
  for name, number in string.gmatch(tally, '([^=;]+)=([^;]+);') do
    totals[name], names[#names + 1] = tonumber(number), name
  end
  for _, sum in ipairs(cjson.decode(sums)) do
    if not totals[sum[1]] then names[#names + 1] = sum[1] end
    totals[sum[1]] = (totals[sum[1]] or 0) + sum[2]
  end
  local parts = {}
  for i, name in ipairs(names) do parts[i] = name .. '=' .. string.format('%.17g', totals[name]) .. ';' end
  tally = table.concat(parts)
end

local function blank(id)
  return {
    version = 0, fence = 0, lapses = FOREVER, since = now, fresh = FOREVER, expires = FOREVER,
    deadline = FOREVER, pinned = 0, hand_place = 0, hand_deadline = 0, seq = 0, id = id, rid = '',
    agent = '', talk = '', holder = '', lease = '', op = '', facts = '', key = '', hand = '',
    hand_before = '',
  }
end

local PUT = '>ddddddd' .. 'sssssssss'

local function given(text) -- '' leaves a field as it was; '+' begins what it shall be
  if text ~= '' then return string.sub(text, 2) end
end

-- A put as it came, in one text from there on.
local function put_of(text, at)
  local put, facts, rid, agent = {}, nil, nil, nil
  put.version, put.fence, put.deadline_in, put.expires_in, put.fresh_in, put.pinned, put.unbind,
    put.id, put.op, put.state, facts, rid, agent, put.guards, put.sums, put.key =
    read(PUT, text, at)
  put.facts, put.rid, put.agent = given(facts), given(rid), given(agent)
  return put
end

local function alter(row, put)
  local was, state = row.state, put.state
  local fresh = row.fresh
  if put.fresh_in == put.fresh_in then fresh = now + put.fresh_in end -- not a number: as it was
  if state == 'leased' then
    if row.hand ~= '' and row.hand_before == '' then
      local function exact(number) return string.format('%.17g', number) end
      row.hand_before = cjson.encode({
        exact(row.fresh), exact(row.expires), row.facts, row.rid, row.agent, row.pinned,
      })
    end
    row.version, row.op, row.deadline = row.version + 1, put.op, row.lapses
  else
    if was == 'leased' then
      take_back(row, state, put.op)
      row.deadline = fresh
    else
      row.state, row.version, row.op = state, row.version + 1, put.op
      if state ~= was then row.since = now end
    end
    if put.deadline_in == put.deadline_in then row.deadline = now + put.deadline_in end
    if state == 'idle' and fresh < row.deadline then row.deadline = fresh end
  end
  row.fresh = fresh
  if put.expires_in == put.expires_in then row.expires = now + put.expires_in end
  row.facts, row.rid, row.agent = put.facts or row.facts, put.rid or row.rid, put.agent or row.agent
  if put.pinned >= 0 then row.pinned = put.pinned end
  if put.unbind == 1 or FREE[state] then row.talk = '' end
end

-- Do what a put says, or say why not. Answers also whose conversation has something else now.
local function change(put)
  local row = row_of(put.id)
  if not row or row.key ~= put.key then
    if row or put.version >= 0 or put.fence >= 0 then return 'absent' end
  elseif row.op == put.op then
    return nil, row
  elseif put.fence >= 0 then
    if row.state ~= 'leased' or row.fence ~= put.fence then return 'changed' end
    if row.lapses <= now then return 'lapsed' end
  elseif row.version ~= put.version then
    return 'changed'
  end
  if put.state == 'leased' and (not row or row.state ~= 'leased') then return 'changed' end
  if not allowed(put.guards) then return 'guard' end
  add_up(put.sums)
  if put.state == '' then
    if not row then return nil end
    local talk = row.talk
    lift(row)
    row.state, row.lease, row.deadline = nil, '', FOREVER
    lay(row)
    rows[put.id] = false
    return nil, nil, talk
  end
  row = lift(row or blank(put.id))
  row.key = put.key
  rows[put.id] = row
  local talk = row.talk
  alter(row, put)
  lay(row)
  return nil, row, talk
end

local function answer(why, row)
  if why then return finish('refused', why) end
  return finish('done', row and text_of(row) or '')
end
