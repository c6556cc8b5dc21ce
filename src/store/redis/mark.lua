-- How far the handling of an admitted request has come.
-- KEYS  record, challenge
local now, owner, mark, attempt, span = unpack(ARGV)
now = clock(now)
local seen = redis.call('GET', KEYS[1])
if not seen then return 'lost' end
local state, held_by, till, rest = string.match(seen, '^(%S+) (%S+) (%S+) (.+)$')
if state == 'ended' or held_by ~= owner or tonumber(till) <= now then return 'lost' end
local held_till, tried, facts = string.match(rest, '^(%S+) (%S+) (.+)$')
local due = ms(now + span)
if mark == 'waiting' then
  state, held_till = 'waiting', due
elseif mark == 'sending' then
  -- The code of a challenge that was used or replaced meanwhile is of no use to anybody.
  local c = redis.call('HMGET', KEYS[2], 'id', 'used')
  if c[1] ~= string.match(facts, '^%S+') or c[2] then return 'stale' end
  state, held_till, tried = 'sending', due, attempt
else
  -- Given back: a try that was not made does not count, and doubt stays doubt.
  if state == 'sending' and mark == 'untried' then tried = ms(tried - 1) end
  if state == 'sending' then state = 'waiting' end
  held_by, held_till = '-', due
end
redis.call('SET', KEYS[1], table.concat({state, held_by, till, held_till, tried, facts}, ' '), 'KEEPTTL')
return 'held'
