-- Provider check, second half: the provider's answer decides. A code is right only once.
-- KEYS     challenge, wrong, possible checks
-- ARGV     check, wrong attempts per challenge, right|found|wrong|not_compared
-- Answers  verified | wrong LEFT | already_used | none_pending
--          unanswered: the code may have been right, and the check counts; not_counted: it does not
local check, wrong_per_challenge, result = unpack(ARGV)
local open = 'open:' .. check

-- The recipient's checks that were not wrong. Each may have been the right one of its verification.
local ours, others = nil, {}
for _, possible in ipairs(redis.call('ZRANGE', KEYS[3], 0, -1)) do
  local verification, id = string.match(possible, '^(%S+) (%S+)$')
  if id == check then ours = verification else others[verification] = true end
end
if ours and (result == 'wrong' or result == 'not_compared') then redis.call('ZREM', KEYS[3], ours .. ' ' .. check) end
-- Not a wrong attempt, even if the challenge is gone.
if result == 'right' or result == 'not_compared' then redis.call('ZREM', KEYS[2], check) end

local c = redis.call('HMGET', KEYS[1], 'kid', 'used', 'wrong', open)
if not c[1] then return result == 'not_compared' and 'not_counted' or 'none_pending' end
if c[2] then return c[2] == check and 'verified' or 'already_used' end
if result == 'wrong' then
  redis.call('HDEL', KEYS[1], open)
  return 'wrong ' .. math.max(0, wrong_per_challenge - c[3])
end
-- A check that is not open belongs to a challenge that was replaced, or this step is being repeated.
if not c[4] then return result == 'not_compared' and 'not_counted' or 'none_pending' end
-- The right code may have been the one of another check.
if result == 'found' and (not ours or ours == '-' or others[ours] or others['-']) then return 'unanswered' end
redis.call('HDEL', KEYS[1], open)
if result == 'not_compared' then
  redis.call('HINCRBY', KEYS[1], 'wrong', -1)
  return 'not_counted'
end
redis.call('ZREM', KEYS[2], check)
redis.call('HSET', KEYS[1], 'used', check)
return 'verified'
