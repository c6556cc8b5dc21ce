-- Provider check, second half: the provider's answer decides. A code is verified only once.
-- KEYS     challenge, wrong (the recipient's wrong attempts), possible checks (the recipient's checks that may have been right)
-- ARGV     check id, wrong attempts per challenge, right|found|wrong|not_compared
--          found: the answer was lost, and the provider shows that a right code was checked, perhaps by another check
-- Answers  verified | wrong LEFT (checks left) | already_used | none_pending
--          unanswered: the code may have been right, and the check counts; not_counted: it does not
local challenge, wrong, possible_checks = unpack(KEYS)
local now, check_id, wrong_per_challenge, answer = unpack(ARGV)
now = clock(now)
local unfinished_field = 'open:' .. check_id

-- The recipient's checks that may have been right: answered right, or without an answer.
local our_sid, other_sids = nil, {}
for _, possible in ipairs(redis.call('ZRANGE', possible_checks, 0, -1)) do
  local verification_sid, possible_id = string.match(possible, '^(%S+) (%S+)$')
  if possible_id == check_id then our_sid = verification_sid else other_sids[verification_sid] = true end
end
if our_sid and (answer == 'wrong' or answer == 'not_compared') then
  redis.call('ZREM', possible_checks, our_sid .. ' ' .. check_id)
end
-- Not a wrong attempt, even if the challenge is gone.
if answer == 'right' or answer == 'not_compared' then redis.call('ZREM', wrong, check_id) end

local fields = redis.call('HMGET', challenge, 'kid', 'used', 'wrong', unfinished_field)
local kid, used_by, checks, is_unfinished = unpack(fields)
assert(kid and number(checks) or not (kid or used_by or checks), 'a challenge cannot be read')
local expires = kid and redis.call('HMGET', challenge, 'expires')[1]
if not kid or expires + 3600000 <= now then return answer == 'not_compared' and 'not_counted' or 'none_pending' end
if used_by then return used_by == check_id and 'verified' or 'already_used' end
if answer == 'wrong' then
  redis.call('HDEL', challenge, unfinished_field)
  return 'wrong ' .. math.max(0, wrong_per_challenge - checks)
end
-- If the challenge does not have this check as unfinished, it is a newer challenge, or this step is a repeat.
if not is_unfinished then return answer == 'not_compared' and 'not_counted' or 'none_pending' end
-- Found: the provider has seen a right code. It is ours only if no other check of our verification may have been right.
-- The verification of a check may be unknown ('-').
local has_rival = our_sid and (other_sids[our_sid] or other_sids['-'])
if answer == 'found' and (not our_sid or our_sid == '-' or has_rival) then return 'unanswered' end
redis.call('HDEL', challenge, unfinished_field)
if answer == 'not_compared' then
  redis.call('HINCRBY', challenge, 'wrong', -1)
  return 'not_counted'
end
redis.call('ZREM', wrong, check_id)
redis.call('HSET', challenge, 'used', check_id)
return 'verified'
