-- A take that the short way could not answer: somebody waits, or nothing fits, or it came before.
local function granted(w)
  local row = row_of(w.granted)
  forget(w)
  serve()
  keep_waiters()
  return grant(row)
end

local function refused(why, what)
  asking = ''
  serve()
  keep_waiters()
  return refuse(why, what)
end

local function ticket(w, what) -- everybody has been served by then
  keep_waiters()
  return finish('ticket', what, write('>d', w.place))
end

local function again(w)
  w.bell, stirred[w.request] = want.bell, true
  local row = w.granted ~= '' and row_of(w.granted)
  if w.granted ~= '' and not (row and row.lease == request and row.lapses > now) then
    -- Its session was taken away, or lapsed before anybody saw it: back to its old place.
    w.granted = ''
    stand(w)
    if row and row.lease == request then take_away(row) end
  end
  if w.granted == '' then serve() end
  if w.granted ~= '' then return granted(w) end
  local what = need(w.talk)
  local why = w.verdict ~= '' and w.verdict or conflict(w, own(w.talk))
  if not why and patience <= 0 then why = 'empty' end
  if why then
    leave(w)
    return refused(why, what)
  end
  be_patient(w, now + patience)
  if known ~= h.note then return refused('note', what) end
  return ticket(w, what)
end

local function arrive()
  local asked = call('HMGET', NAMES, 'l' .. request, 'd' .. request)
  if asked[2] and read('>d', asked[2]) > now then return refused('withdrawn') end
  local row = asked[1] and row_of(asked[1])
  if row then -- asked again, after the answer was lost
    if row.lapses <= now then return refused('withdrawn') end
    serve()
    keep_waiters()
    return grant(row)
  end
  if h.open == 0 then return refused('closed') end
  local w = {
    request = request, place = place, patience = FOREVER, wish = want.wish, ttl = want.ttl,
    own_only = want.own_only, kind = 0, talk = want.talk, version = want.version,
    holder = want.holder, bell = want.bell, granted = '', verdict = '',
  }
  local why = conflict(w, own(w.talk))
  if why then return refused(why) end
  if place < 0 then
    h.place = grown(h.place)
    w.place = h.place
  end
  h.present = h.present + 1
  stand(w)
  serve()
  if w.granted ~= '' then return granted(w) end
  if known ~= h.note then
    why = 'note'
  elseif patience <= 0 then
    why = 'empty'
  elseif h.standing > h.most and place < 0 then
    why = 'full'
  end
  local what = need(w.talk)
  if why then
    leave(w)
    return refused(why, what)
  end
  be_patient(w, now + patience)
  return ticket(w, what)
end

settle()
if ARGV[5] then
  local _, _, talk = change(put_of(ARGV[5], 1))
  promote(talk)
end
h.cap, h.most = want.cap, want.most
asking = request
local w = waiter_of(request)
if w then return again(w) end
return arrive()
