-- How far the handling of an admitted request has come.
-- KEYS  record, challenge
local now, owner, made, mark, span, notes = unpack(ARGV)
now = clock(now)
local r = read(redis.call('GET', KEYS[1]), now)
if not r or r.state == 'ended' or r.owner ~= owner then return 'lost' end
unfold(r)
-- A mark that comes late, when more tries were made since, changes nothing.
local in_doubt = mark == 'doubt' or mark == 'doubtback'
if not knows_last(r, made, in_doubt) and not (made == '-' and mark == 'back') then return 'lost' end
local proof = report(r)
-- The try under way, if there is one, was not made.
if not in_doubt and r.state == 'sending' and r.attempt ~= made then r.attempt = ms(r.attempt - 1) end
if mark == 'waiting' then
  r.state = 'waiting'
elseif mark == 'sending' then
  if r.doubts ~= '0' and proof then return 'proven ' .. proof end
  -- The code of a challenge that was used or replaced meanwhile is of no use to anybody.
  local c = redis.call('HMGET', KEYS[2], 'id', 'used')
  if c[1] ~= string.match(r.facts, '^%S+') or c[2] then return 'stale' end
  r.state, r.attempt, r.started = 'sending', ms(r.attempt + 1), ms(now)
elseif mark == 'doubt' then
  doubt(r)
else
  -- Given back: doubt stays doubt.
  if in_doubt then doubt(r) end
  if r.state == 'sending' then r.state = 'waiting' end
  r.owner, r.starts = '-', math.max(0, r.starts - 1)
end
r.lease = ms(now + span)
if notes ~= '-' then r.notes = notes end
redis.call('SET', KEYS[1], live(r), 'KEEPTTL')
return mark == 'doubt' and proof and 'proven ' .. proof or 'held'
