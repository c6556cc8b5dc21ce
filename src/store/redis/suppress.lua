-- Lets nothing be sent to a recipient, or lets it again. Answers what stands then, or what stood.
-- KEYS  suppressed, suppression, suppressions
local now, turn, recipient, lasts, shown = unpack(ARGV)
local suppressed, note, index = unpack(KEYS)
now = clock(now)
if turn == 'on' then
  -- What a person said before stays said, unless somebody says something else.
  local who, why = string.match(shown, '^(%S+) ?(.*)$')
  local since, before = string.match(suppression(suppressed, note, now) or '', '^0 %S+ (%S+) %S+ ?(.*)$')
  if since and why == '' then shown = who .. ' ' .. before end
  block(suppressed, '0', lasts, now, shown)
  if since then redis.call('SET', note, since .. ' ' .. shown, 'KEEPTTL') end
  return suppression(suppressed, note, now) or ''
end
local stood = suppression(suppressed, note, now)
redis.call('DEL', suppressed, note)
redis.call('ZREM', index, recipient)
return stood or ''
