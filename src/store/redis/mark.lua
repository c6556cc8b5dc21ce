-- How far the handling of an admitted request has come.
-- KEYS  record
local now, owner, mark, attempt, span = unpack(ARGV)
now = tonumber(now)
if now == 0 then
  local t = redis.call('TIME')
  now = t[1] * 1000 + math.floor(t[2] / 1000)
end
local seen = redis.call('GET', KEYS[1])
if not seen then return 'lost' end
local state, held_by, till, rest = string.match(seen, '^(%S+) (%S+) (%S+) (.+)$')
if state == 'ended' or held_by ~= owner or tonumber(till) <= now then return 'lost' end
local held_till, tried, facts = string.match(rest, '^(%S+) (%S+) (.+)$')
local due = string.format('%.0f', now + span)
if mark == 'waiting' then
  state, held_till = 'waiting', due
elseif mark == 'sending' then
  state, held_till, tried = 'sending', due, attempt
else
  state, held_by, tried = 'waiting', '-', attempt
end
redis.call('SET', KEYS[1], table.concat({state, held_by, till, held_till, tried, facts}, ' '), 'KEEPTTL')
return 'held'
