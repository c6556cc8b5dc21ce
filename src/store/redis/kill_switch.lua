-- Kill switch: reads it, turns it on or turns it off.
-- KEYS     kill switch
-- ARGV     now, none|on|off, reason
-- Answers  the switch before the change: since when, reason; nothing if it was off
local kill_switch = KEYS[1]
local now, change, reason = unpack(ARGV)
local previous = redis.call('GET', kill_switch)
if change == 'on' then
  local since = previous and string.match(previous, '^%S+') or decimal(clock(now))
  redis.call('SET', kill_switch, since .. ' ' .. reason)
elseif change == 'off' then
  redis.call('DEL', kill_switch)
end
return previous or ''
