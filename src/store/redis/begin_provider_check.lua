-- Provider check, first half: the check is counted before the provider is asked.
-- KEYS     challenge, wrong (the recipient's wrong attempts), possible checks (the recipient's checks that may have been right)
-- ARGV     now, check id, wrong attempts per challenge, wrong attempts per hour, challenge kept after its expiry,
--          key id of codes that the provider made
-- Answers  ask VERIFICATION_SID: ask the provider; '-' if the SID is not known
--          already_used | expired AT | locked MS (0: until a new code) | none_pending | key_unavailable (a code of ours)
local challenge, wrong, possible_checks = unpack(KEYS)
local now, check_id, wrong_per_challenge, wrong_count, kept_after, provider_made = unpack(ARGV)
now = clock(now)

local fields = redis.call('HMGET', challenge, 'kid', 'expires', 'used', 'wrong', 'name', 'open:' .. check_id)
local kid, expires, used_by, checks, verification_sid, unfinished_sid = unpack(fields)
assert(kid and number(expires) and number(checks) or not (kid or expires or used_by or checks), 'a challenge cannot be read')
if not kid or expires + kept_after <= now then return 'none_pending' end
if used_by then return 'already_used' end
if kid ~= provider_made then return 'key_unavailable' end
-- The step is repeated because its answer was lost. It was counted the first time.
if unfinished_sid then return 'ask ' .. unfinished_sid end
if tonumber(expires) <= now then return 'expired ' .. expires end
-- The recipient's lock comes first: a new code does not lift it.
local locked = wait(wrong, wrong_count, HOUR, now)
if locked > 0 then return 'locked ' .. decimal(locked) end
if tonumber(checks) >= tonumber(wrong_per_challenge) then return 'locked 0' end

verification_sid = verification_sid or '-'
redis.call('HINCRBY', challenge, 'wrong', 1)
redis.call('HSET', challenge, 'open:' .. check_id, verification_sid)
-- Counted as wrong until the provider says otherwise.
append(wrong, check_id, HOUR, now)
-- Kept per recipient, not per challenge: the provider may use one code for several challenges in turn.
append(possible_checks, verification_sid .. ' ' .. check_id, DAY, now)
return 'ask ' .. verification_sid
