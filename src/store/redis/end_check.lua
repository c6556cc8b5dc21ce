-- What became of a check that was begun. The right code is right once.
-- KEYS  challenge, wrong
local check, challenge_max, finish = unpack(ARGV)
local open = 'open:' .. check

local c = redis.call('HMGET', KEYS[1], 'kid', 'used', 'wrong', open)
if not c[1] then return 'none' end
if c[2] then return c[2] == check and 'verified' or 'used' end
if finish == 'wrong' then
  redis.call('HDEL', KEYS[1], open)
  return 'wrong ' .. math.max(0, challenge_max - c[3])
end
-- Not open: the challenge was replaced meanwhile, or the answer to this was lost and it is asked again.
if not c[4] then return finish == 'back' and 'back' or 'none' end
if finish == 'found' then
  for _, field in ipairs(redis.call('HKEYS', KEYS[1])) do
    -- It may have been another one's code.
    if string.sub(field, 1, 5) == 'open:' and field ~= open then return 'unsure' end
  end
end
redis.call('HDEL', KEYS[1], open)
redis.call('ZREM', KEYS[2], check)
if finish == 'back' then
  redis.call('HINCRBY', KEYS[1], 'wrong', -1)
  return 'back'
end
redis.call('HSET', KEYS[1], 'used', check)
return 'verified'
