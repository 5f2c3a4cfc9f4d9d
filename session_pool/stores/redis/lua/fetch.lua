-- A take that fetches what was granted in line, while nobody has fallen silent: nothing changes for
-- anybody else, so nobody has to be served.
if h.present > 0 and not ARGV[5] and h.cap == want.cap and h.calm == (still and calm or 0) then
  local w = waiter_of(request)
  local row = w and w.granted ~= '' and row_of(w.granted)
  if row and row.lease == request and row.lapses > now then
    local to = '(P' .. write('>d', now) .. '\255'
    if not call('ZRANGEBYLEX', INDEX, '[P', to, 'LIMIT', 0, 1)[1] then
      call('HDEL', NAMES, 'w' .. request)
      if w.patience ~= FOREVER then
        call('ZREM', INDEX, 'P' .. write('>d', w.patience) .. request)
      end
      h.present, h.most = h.present - 1, want.most
      return grant(row)
    end
  end
end
