-- Who waits for a pool key, and in which line.
--
-- A waiter stands where it can be served, and in one such place only: the head of a conversation,
-- and everybody without one, in the line of its wish, or in the line of those whose own session is
-- there and who lack room only. Serving looks at one head per line, never along it. In `INDEX`:
-- W<line><place><request> who stands in a line, X<line> the lines that somebody stands in,
-- T<conversation>\0<place><request> who waits for a conversation's, P<until><request> patience.
local OWN = '\1\0' .. write('>d', 0)
local BATCH = 1000 -- granted, or found silent, in one operation at most; the rest with the next
local BY_WISH, BY_OWN = 1, 2

local stirred, asking, vain = {}, '', {}

local function keep_waiters()
  for id in pairs(stirred) do
    local w = waiters[id]
    if w then
      call('HSET', NAMES, 'w' .. id, write(
        WAITER, w.place, w.patience, w.wish, w.ttl, w.own_only, w.kind, w.talk, w.version,
        w.holder, w.bell, w.granted, w.verdict
      ))
    else
      call('HDEL', NAMES, 'w' .. id)
    end
  end
end

local function tell(w)
  if w.request ~= asking then ring(w.bell, w.request) end
end

local function first(tag)
  return call('ZRANGEBYLEX', INDEX, '[' .. tag, '(' .. tag .. '\255', 'LIMIT', 0, 1)[1]
end

local function line_of(w)
  return w.kind == BY_OWN and OWN or w.version .. '\0' .. write('>d', w.wish)
end

local function join(w, kind)
  w.kind, stirred[w.request] = kind, true
  local line = line_of(w)
  call('ZADD', INDEX, 0, 'W' .. line .. write('>d', w.place) .. w.request, 0, 'X' .. line)
  if kind == BY_WISH then h.wanting = h.wanting + 1 end
end

local function unjoin(w)
  local line = line_of(w)
  call('ZREM', INDEX, 'W' .. line .. write('>d', w.place) .. w.request)
  if not first('W' .. line) then call('ZREM', INDEX, 'X' .. line) end
  if w.kind == BY_WISH then h.wanting = h.wanting - 1 end
  w.kind, stirred[w.request] = 0, true
end

-- Why the session that its conversation has, or has not, can never serve a waiter.
local function conflict(w, row)
  if w.talk == '' then return nil end
  if not row then
    if w.own_only == 1 and not still then return 'empty' end
    return nil
  end
  if w.version ~= '' and w.version ~= row.agent then return 'version' end
end

local function head_of(talk)
  local tag = 'T' .. talk .. '\0'
  local found = first(tag)
  return found and waiter_of(string.sub(found, #tag + 9)) or nil
end

-- Let the first of a conversation, and nobody else of it, stand where it can be served; to be
-- called when what the conversation has is another, or in another state.
local function promote(talk)
  if not talk or talk == '' or h.standing == 0 then return end
  local w, row, kind = head_of(talk), own(talk), 0
  if w then
    if conflict(w, row) then
      vain[#vain + 1] = talk
    elseif not row then
      kind = still and 0 or BY_WISH
    elseif ready(row) then
      kind = BY_OWN
    end
  end
  local stood = call('HGET', NAMES, 'p' .. talk)
  local promoted = stood and waiter_of(stood) or nil
  if promoted and promoted.kind ~= 0 then
    if promoted == w and w.kind == kind then return end
    unjoin(promoted)
  end
  if not w then
    if stood then call('HDEL', NAMES, 'p' .. talk) end
    return
  end
  if stood ~= w.request then call('HSET', NAMES, 'p' .. talk, w.request) end
  if kind ~= 0 then join(w, kind) end
end

local function stand(w)
  waiters[w.request], stirred[w.request] = w, true
  h.standing = h.standing + 1
  if still then h.calm = calm end -- to be looked at again when that is over
  if w.talk == '' then
    join(w, BY_WISH)
  else
    call('ZADD', INDEX, 0, 'T' .. w.talk .. '\0' .. write('>d', w.place) .. w.request)
    promote(w.talk)
  end
end

local function step_out(w)
  if w.kind ~= 0 then unjoin(w) end
  if w.talk ~= '' then
    call('ZREM', INDEX, 'T' .. w.talk .. '\0' .. write('>d', w.place) .. w.request)
    promote(w.talk)
  end
  h.standing = h.standing - 1
end

local function be_patient(w, until_)
  if w.patience ~= FOREVER then
    call('ZREM', INDEX, 'P' .. write('>d', w.patience) .. w.request)
  end
  if until_ ~= FOREVER then call('ZADD', INDEX, 0, 'P' .. write('>d', until_) .. w.request) end
  w.patience, stirred[w.request] = until_, true
end

-- It is in line no more, and has nothing left to fetch.
local function forget(w)
  be_patient(w, FOREVER)
  waiters[w.request], stirred[w.request] = false, true
  h.present = h.present - 1
end

local function take_away(row)
  local talk = row.talk
  undo(row)
  promote(talk)
end

local function leave(w)
  if w.granted ~= '' then
    forget(w)
    local row = row_of(w.granted)
    if row and row.lease == w.request then take_away(row) end
  else
    if w.verdict == '' then step_out(w) end
    forget(w)
  end
end
