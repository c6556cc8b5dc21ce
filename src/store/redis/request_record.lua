-- All that is known of a request: the end, the tries and the use of its code, and its record as it stands.
-- KEYS  index; the others are found by what is told or stands there
local now, prefix, recipient, request, kept_after = unpack(ARGV)
now = clock(now)
if recipient == '-' then recipient = redis.call('GET', KEYS[1]) end
if not recipient then return '' end
local line = redis.call('GET', prefix .. ':' .. recipient .. ':req:' .. request)
local r = read(line, now)
if not r then return '' end
if r.state ~= 'ended' then unfold(r) end
-- The words of an outcome are quoted and none of their quotes is bare: these are its own fields.
local purpose = r.purpose or string.match(r.rest, '"purpose":"([^"]*)"')
local id = r.facts and string.match(r.facts, '^%S+') or string.match(r.rest, '"challenge":"([^"]*)"')
local c = redis.call('HMGET', prefix .. ':' .. recipient .. ':challenge:' .. purpose, 'id', 'expires', 'wrong', 'used')
if not id or c[1] ~= id or tonumber(c[2]) + kept_after <= now then return '- - - ' .. line end
return table.concat({c[2], c[3], c[4] and 1 or 0, line}, ' ')
