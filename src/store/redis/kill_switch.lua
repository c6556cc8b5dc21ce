-- Kill switch: reads it, turns it on or turns it off.
-- KEYS     kill switch
-- ARGV     now, none|on|off, reason
-- Answers  the switch before the change: since when, reason; nothing if it was off
local now, change, reason = unpack(ARGV)
local previous = redis.call('GET', KEYS[1])
if change == 'on' then
  local since = previous and string.match(previous, '^%S+') or ms(clock(now))
  redis.call('SET', KEYS[1], since .. ' ' .. reason)
elseif change == 'off' then
  redis.call('DEL', KEYS[1])
end
return previous or ''
