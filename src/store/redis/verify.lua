-- Verification: checks a typed code. The check is counted before the code is compared.
-- KEYS     challenge, wrong (the recipient's wrong attempts)
-- ARGV     now, check id, wrong attempts per challenge, wrong attempts per hour, challenge kept after its expiry,
--          then the id of each of our code keys, and the digest of the typed code under it
-- Answers  verified | wrong LEFT (checks left) | already_used | expired AT | locked MS (0: until a new code) |
--          none_pending | key_unavailable (none of our keys made the code)
local challenge, wrong = unpack(KEYS)
local now, check_id, wrong_per_challenge, wrong_count, kept_after = unpack(ARGV, 1, 5)
now = clock(now)

local fields = redis.call('HMGET', challenge, 'kid', 'digest', 'expires', 'used', 'wrong')
local kid, digest, expires, used_by, checks = unpack(fields)
assert(kid and digest and number(expires) and number(checks) or not (kid or digest or expires or used_by or checks),
  'a challenge cannot be read')
if not kid or expires + kept_after <= now then return 'none_pending' end
if used_by then return used_by == check_id and 'verified' or 'already_used' end
if tonumber(expires) <= now then return 'expired ' .. expires end
-- The check is repeated because its answer was lost. It was counted the first time.
if redis.call('ZSCORE', wrong, check_id) then return 'wrong ' .. math.max(0, wrong_per_challenge - checks) end
-- The recipient's lock comes first: a new code does not lift it.
local locked = wait(wrong, wrong_count, HOUR, now)
if locked > 0 then return 'locked ' .. decimal(locked) end
if tonumber(checks) >= tonumber(wrong_per_challenge) then return 'locked 0' end
local typed_digest
for i = 6, #ARGV, 2 do
  if ARGV[i] == kid then typed_digest = ARGV[i + 1] end
end
if not typed_digest then return 'key_unavailable' end

checks = redis.call('HINCRBY', challenge, 'wrong', 1)
if typed_digest == digest then
  redis.call('HSET', challenge, 'used', check_id)
  return 'verified'
end
append(wrong, check_id, HOUR, now)
return 'wrong ' .. (wrong_per_challenge - checks)
