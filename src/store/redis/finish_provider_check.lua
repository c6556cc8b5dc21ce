-- What became of a check that was begun. The right code is right once.
-- KEYS  challenge, wrong, asked
local check, challenge_max, finish = unpack(ARGV)
local open = 'open:' .. check

-- The checks of the recipient that were not wrong: each may have been the right one.
local ours, others = nil, {}
for _, mark in ipairs(redis.call('ZRANGE', KEYS[3], 0, -1)) do
  local name, id = string.match(mark, '^(%S+) (%S+)$')
  if id == check then ours = name else others[name] = true end
end
if ours and (finish == 'wrong' or finish == 'back') then redis.call('ZREM', KEYS[3], ours .. ' ' .. check) end
-- What was right or not compared is no wrong try, whatever became of its challenge.
if finish == 'right' or finish == 'back' then redis.call('ZREM', KEYS[2], check) end

local c = redis.call('HMGET', KEYS[1], 'kid', 'used', 'wrong', open)
if not c[1] then return finish == 'back' and 'back' or 'none' end
if c[2] then return c[2] == check and 'verified' or 'used' end
if finish == 'wrong' then
  redis.call('HDEL', KEYS[1], open)
  return 'wrong ' .. math.max(0, challenge_max - c[3])
end
-- Not open: the challenge was replaced meanwhile, or the answer to this was lost and it is asked again.
if not c[4] then return finish == 'back' and 'back' or 'none' end
-- It may have been another one's code.
if finish == 'found' and (not ours or ours == '-' or others[ours] or others['-']) then return 'unsure' end
redis.call('HDEL', KEYS[1], open)
if finish == 'back' then
  redis.call('HINCRBY', KEYS[1], 'wrong', -1)
  return 'back'
end
redis.call('ZREM', KEYS[2], check)
redis.call('HSET', KEYS[1], 'used', check)
return 'verified'
