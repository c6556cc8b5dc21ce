-- Idempotency key: reads the request that a key names, and binds a free key.
-- KEYS     idempotency key
-- ARGV     now, digest of the request or -, time kept
-- Answers  the digest that the key is bound to | - (free)
local key = KEYS[1]
local now, request, kept = unpack(ARGV)
now = clock(now)
local bound_until, bound = string.match(redis.call('GET', key) or '', '^(%d+) (%x+)$')
if bound and tonumber(bound_until) > now then return bound end
if request ~= '-' then redis.call('SET', key, decimal(now + kept) .. ' ' .. request, 'PX', kept) end
return request
