-- A take while nobody waits and something fits: the short way, without a look at lines.
--
-- ARGV: 3 the time, patience, note version known, place or -1, and the request; 4 what never changes
-- of the want; 5 perhaps a put to be done first.
local _, patience, known, place, request = read('>dddds', ARGV[3])
local want = {}
want.wish, want.ttl, want.cap, want.most, want.own_only, want.holder, want.talk, want.version,
  want.bell = read('>dddddssss', ARGV[4])
remember_length(want.ttl)

if h.present == 0 and h.open == 1 and count.leased < want.cap and not ARGV[5] then
  local asked = call('HMGET', NAMES, 'l' .. request, 'd' .. request)
  if not asked[1] and not asked[2] then
    local row = own(want.talk)
    if row then
      if not ready(row) or (want.version ~= '' and want.version ~= row.agent) then row = nil end
    elseif want.own_only == 0 and not (still and want.talk ~= '') then
      row = free(want.version, now + want.wish)
    end
    if row then
      h.cap, h.most = want.cap, want.most
      if place < 0 then
        h.place = grown(h.place)
        place = h.place
      end
      lease(row, want, request, place)
      return grant(row)
    end
  end
end
