-- Kill switch: reads it, turns it on or turns it off.
-- KEYS     kill switch
-- ARGV     now, change (none|on|off), reason
-- Answers  the switch before the change: since when, reason; empty if it was off
local kill_switch = KEYS[1]
local now, change, reason = unpack(ARGV)
local is_read, previous, since = pcall(function()
  local switch = redis.call('GET', kill_switch)
  if not switch then return nil end
  return switch, assert(string.match(switch, '^(%d+) '), 'the kill switch cannot be read')
end)
-- A damaged switch can still be set or deleted.
if not is_read then
  if change == 'none' then error(previous) end
  previous = nil
end
if change == 'on' then
  since = since or decimal(clock(now))
  redis.call('SET', kill_switch, since .. ' ' .. reason)
elseif change == 'off' then
  redis.call('DEL', kill_switch)
end
return previous or ''
