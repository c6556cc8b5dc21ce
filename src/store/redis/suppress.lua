-- Manual suppression: an operator suppresses a recipient, or removes its suppression, even one that a provider caused.
-- KEYS     suppression, its note, suppressions (the list of all suppressed recipients)
-- ARGV     now, add|remove, recipient, duration or '-' (without end), masked recipient and reason
-- Answers  the suppression in force after adding, or before removing: provider code, until when or '-', since when, masked
--          recipient, reason; empty if there is none
local now, change, recipient, duration, masked_and_reason = unpack(ARGV)
local suppression, note_key, suppressions = unpack(KEYS)
now = clock(now)
if change == 'add' then
  -- Without a new reason, that of an earlier manual suppression (stored with provider code 0) stays.
  local masked, reason = string.match(masked_and_reason, '^(%S+) ?(.*)$')
  local since, old_reason = string.match(suppression_line(suppression, note_key, now) or '', '^0 %S+ (%S+) %S+ ?(.*)$')
  if since and reason == '' then masked_and_reason = masked .. ' ' .. old_reason end
  suppress(suppression, '0', duration, now, masked_and_reason)
  if since then redis.call('SET', note_key, since .. ' ' .. masked_and_reason, 'KEEPTTL') end
  return suppression_line(suppression, note_key, now) or ''
end
-- One that cannot be read can still be removed.
local is_read, removed = pcall(suppression_line, suppression, note_key, now)
redis.call('DEL', suppression, note_key)
redis.call('ZREM', suppressions, recipient)
return is_read and removed or ''
