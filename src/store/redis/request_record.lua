-- Request record: reads the record of a request, and the state of its code.
-- KEYS     index (request id to recipient); the other keys follow from the recipient
-- ARGV     now, prefix of all keys, recipient or '-', request id, challenge kept after its expiry
-- Answers  the code's expiry, checks, and 1 if it was used (three '-' if the challenge was replaced or is gone), then the
--          record; empty if there is no record
local index = KEYS[1]
local now, prefix, recipient, request_id, kept_after = unpack(ARGV)
now = clock(now)
if recipient == '-' then recipient = redis.call('GET', index) end
if not recipient then return '' end
local line = redis.call('GET', prefix .. ':' .. recipient .. ':req:' .. request_id)
local r = read_record(line, now)
if not r then return '' end
if r.state ~= 'ended' then read_progress(r) end
-- Quotes inside JSON strings are escaped, so these patterns match only fields, never text inside a value.
local purpose = r.purpose or string.match(r.rest, '"purpose":"([^"]*)"')
local challenge_id = r.facts and string.match(r.facts, '^%S+') or string.match(r.rest, '"challenge":"([^"]*)"')
local challenge = prefix .. ':' .. recipient .. ':challenge:' .. purpose
local id, expires, checks, used_by = unpack(redis.call('HMGET', challenge, 'id', 'expires', 'wrong', 'used'))
if not challenge_id or id ~= challenge_id or tonumber(expires) + kept_after <= now then return '- - - ' .. line end
return table.concat({expires, checks, used_by and 1 or 0, line}, ' ')
