-- Provider check, second half: the provider's answer decides. A code is right only once.
-- KEYS     challenge, wrong, possible checks
-- ARGV     check, wrong attempts per challenge, right|found|wrong|not_compared
-- Answers  verified | wrong LEFT | already_used | none_pending
--          unanswered: the code may have been right, and the check counts; not_counted: it does not
local challenge, wrong, possible_checks = unpack(KEYS)
local check, wrong_per_challenge, result = unpack(ARGV)
local open = 'open:' .. check

-- The recipient's checks that were not wrong. Each may have been the right one of its verification.
local ours, others = nil, {}
for _, possible in ipairs(redis.call('ZRANGE', possible_checks, 0, -1)) do
  local verification, id = string.match(possible, '^(%S+) (%S+)$')
  if id == check then ours = verification else others[verification] = true end
end
if ours and (result == 'wrong' or result == 'not_compared') then
  redis.call('ZREM', possible_checks, ours .. ' ' .. check)
end
-- Not a wrong attempt, even if the challenge is gone.
if result == 'right' or result == 'not_compared' then redis.call('ZREM', wrong, check) end

local kid, used_by, checks, is_open = unpack(redis.call('HMGET', challenge, 'kid', 'used', 'wrong', open))
if not kid then return result == 'not_compared' and 'not_counted' or 'none_pending' end
if used_by then return used_by == check and 'verified' or 'already_used' end
if result == 'wrong' then
  redis.call('HDEL', challenge, open)
  return 'wrong ' .. math.max(0, wrong_per_challenge - checks)
end
-- A check that is not open belongs to a challenge that was replaced, or this step is being repeated.
if not is_open then return result == 'not_compared' and 'not_counted' or 'none_pending' end
-- The right code may have been the one of another check.
if result == 'found' and (not ours or ours == '-' or others[ours] or others['-']) then return 'unanswered' end
redis.call('HDEL', challenge, open)
if result == 'not_compared' then
  redis.call('HINCRBY', challenge, 'wrong', -1)
  return 'not_counted'
end
redis.call('ZREM', wrong, check)
redis.call('HSET', challenge, 'used', check)
return 'verified'
