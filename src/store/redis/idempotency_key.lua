-- Idempotency key: reads the request that a key names, and binds a free key.
-- KEYS     idempotency key
-- ARGV     now, digest of the request or -, time kept
-- Answers  the digest that the key is bound to, by this call or an earlier one | - (free)
local key = KEYS[1]
local now, request, kept = unpack(ARGV)
now = clock(now)
local recorded = redis.call('GET', key)
if recorded then
  local bound_until, bound = string.match(recorded, '^(%d+) (%x+)$')
  if number(bound_until) > now then return bound end
end
if request ~= '-' then redis.call('SET', key, decimal(now + kept) .. ' ' .. request, 'PX', kept) end
return request
