-- Serving: while the key is open and fewer than the cap are leased, the earliest waiter that some
-- entry fits gets it. Every operation on a key begins with `settle` and ends having served.
local function dismiss()
  while #vain > 0 do
    local talk = table.remove(vain)
    local w = head_of(talk)
    local verdict = w and conflict(w, own(talk))
    if verdict then
      w.verdict, stirred[w.request] = verdict, true
      step_out(w)
      tell(w)
    end
  end
end

local function earlier(place, request, best)
  if not best or place ~= best.place then return not best or place < best.place end
  local other = best.request -- by bytes: comparing texts would go by the server's language
  for i = 1, #request do
    local mine, theirs = string.byte(request, i), string.byte(other, i)
    if mine ~= theirs then return theirs ~= nil and mine < theirs end
  end
  return #request < #other
end

local function best_served()
  local best, found
  for _, mark in ipairs(call('ZRANGEBYLEX', INDEX, '[X', '(Y')) do
    local line = string.sub(mark, 2)
    local tag = 'W' .. line
    local place, at = 0, #tag + 1
    local member = first(tag)
    if member then
      place, at = read('>d', member, at)
      local request = string.sub(member, at)
      if earlier(place, request, best) then
        local w = waiter_of(request)
        local row = w.kind == BY_OWN and own(w.talk) or nil
        if w.kind == BY_WISH then row = free(w.version, now + w.wish) end
        if row then best, found = w, row end
      end
    end
  end
  return best, found
end

local function serve()
  for _ = 1, BATCH do
    dismiss()
    if h.standing == 0 or h.open == 0 or count.leased >= h.cap then return end
    local w, row = best_served()
    if not w then return end
    -- In this order: those behind it in its conversation must see that it has a session.
    lease(row, w, w.request, w.place)
    promote(w.talk)
    w.granted, stirred[w.request] = row.id, true
    step_out(w)
    tell(w)
  end
  dismiss()
end

-- As the calm begins and as it ends, the first of each conversation stands where it should now.
local function rearrange()
  local from = '[T'
  for _ = 1, 10 * BATCH do
    local found = call('ZRANGEBYLEX', INDEX, from, '(U', 'LIMIT', 0, 1)[1]
    if not found then break end
    local talk = string.match(found, '^T([^%z]*)')
    promote(talk)
    from = '[T' .. talk .. '\0\255'
  end
  h.calm = still and calm or 0
end

-- What was served by the operation before needs no look, unless time has changed something.
local function settle()
  if h.present == 0 then return end
  local to, moved = '(P' .. write('>d', now) .. '\255', false
  if h.calm ~= (still and calm or 0) then
    rearrange()
    moved = true
  end
  for _, member in ipairs(call('ZRANGEBYLEX', INDEX, '[P', to, 'LIMIT', 0, BATCH)) do
    local w = waiter_of(string.sub(member, 10))
    if w then leave(w) end
    moved = true
  end
  if moved then serve() end
end

-- What a request waits for.
local function need(talk)
  local row = own(talk)
  if row and row.state ~= 'parked' then return 'own' end
  if talk ~= '' and still and not (row and ready(row)) then return 'own' end
  if count.leased >= h.cap then return 'room' end
  return row and 'own' or 'new'
end
