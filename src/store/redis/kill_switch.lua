-- The kill switch as it stood. It is turned on, off, or only asked for.
-- KEYS  kill
local now, turn, reason = unpack(ARGV)
local before = redis.call('GET', KEYS[1])
if turn == 'on' then
  local since = before and string.match(before, '^%S+') or ms(clock(now))
  redis.call('SET', KEYS[1], since .. ' ' .. reason)
elseif turn == 'off' then
  redis.call('DEL', KEYS[1])
end
return before or ''
