-- One who waits, as it is kept.
local WAITER = '>dddddd' .. 'ssssss'
local waiters = {} -- by request: as it is by now; false where there is none

local function waiter_of(id)
  local w = waiters[id]
  if w == nil then
    local text = call('HGET', NAMES, 'w' .. id)
    w = false
    if text then
      w = {request = id}
      w.place, w.patience, w.wish, w.ttl, w.own_only, w.kind, w.talk, w.version, w.holder, w.bell,
        w.granted, w.verdict = read(WAITER, text)
    end
    waiters[id] = w
  end
  return w
end
