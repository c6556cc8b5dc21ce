-- Lets nothing be sent to a recipient, or lets it again. Answers what stands then, or what stood.
-- KEYS  suppressed, suppression, suppressions
local now, turn, recipient, lasts, shown = unpack(ARGV)
local suppressed, note, index = unpack(KEYS)
now = clock(now)
if turn == 'on' then
  block(suppressed, '0', lasts, now, shown)
  return suppression(suppressed, note, now) or ''
end
local stood = suppression(suppressed, note, now)
redis.call('DEL', suppressed, note)
redis.call('ZREM', index, recipient)
return stood or ''
