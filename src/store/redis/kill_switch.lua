-- Kill switch: reads it, turns it on or turns it off.
-- KEYS     kill switch
-- ARGV     now, change (none|on|off), reason
-- Answers  the switch before the change: since when, reason; empty if it was off
local kill_switch = KEYS[1]
local now, change, reason = unpack(ARGV)
local previous = redis.pcall('GET', kill_switch)
-- If the key has the wrong Redis type, the switch can still be set or deleted.
if type(previous) == 'table' then
  if change == 'none' then error(previous) end
  previous = false
end
if change == 'on' then
  local since = previous and string.match(previous, '^%S+') or decimal(clock(now))
  redis.call('SET', kill_switch, since .. ' ' .. reason)
elseif change == 'off' then
  redis.call('DEL', kill_switch)
end
return previous or ''
