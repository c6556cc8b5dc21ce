-- How far the handling of an admitted request has come.
-- KEYS  record, challenge
local now, owner, mark, attempt, span, tried, notes = unpack(ARGV)
now = clock(now)
local r = read(redis.call('GET', KEYS[1]), now)
if not r or r.state == 'ended' or r.owner ~= owner then return 'lost' end
unfold(r)
r.lease = ms(now + span)
-- A try that was not made does not count.
if r.state == 'sending' and tried == '0' then r.attempt = r.attempt - 1 end
if mark == 'waiting' then
  r.state = 'waiting'
elseif mark == 'sending' then
  -- The code of a challenge that was used or replaced meanwhile is of no use to anybody.
  local c = redis.call('HMGET', KEYS[2], 'id', 'used')
  if c[1] ~= string.match(r.facts, '^%S+') or c[2] then return 'stale' end
  r.state, r.attempt, r.started = 'sending', attempt, ms(now)
elseif mark == 'doubt' then
  doubt(r)
else
  -- Given back: doubt stays doubt.
  if r.state == 'sending' then r.state = 'waiting' end
  r.owner, r.starts = '-', math.max(0, r.starts - 1)
end
if notes ~= '-' then r.notes = notes end
redis.call('SET', KEYS[1], live(r), 'KEEPTTL')
local proof = report(r)
return mark == 'doubt' and proof and 'proven ' .. proof or 'held'
