-- Shared keys: reads what all requests share. Fails at the first key that cannot be read.
-- KEYS     kill switch, log of all sends, then sorted sets: active workers, expected receipts, suppressed recipients
-- ARGV     prefix of all keys: those of the countries follow from it
-- Answers  readable
local kill_switch, all_sends = unpack(KEYS)
check_shared_keys({unpack(KEYS, 3)}, all_sends, kill_switch)
local A, Z = string.byte('A'), string.byte('Z')
for first = A, Z do
  for second = A, Z do
    read_suppression(redis.call('GET', ARGV[1] .. ':country:' .. string.char(first, second)))
  end
end
return 'readable'
