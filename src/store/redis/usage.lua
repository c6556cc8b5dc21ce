-- Usage: reads a subject's use of its limits. Charges nothing.
-- KEYS     cooldown, wrong (wrong attempts), refunds (those after a provider's refusal), the logs of sends: the recipient's,
--          the user's, the client IP's, its network's, and all; then the record of a request if one is given
-- ARGV     now, the count of each limit (0: off), the window of the recipient's first limit
-- Answers  sends in the window, sends in a day, wrong attempts in an hour, time until no limit applies, cooldown left,
--          1 if the request has a record, else 0
local cooldown, wrong, refunds, sends, user, ip, network, all, record = unpack(KEYS)
local now, recipient_count, day_count, user_count, ip_count, network_count, all_count = unpack(ARGV, 1, 7)
local wrong_count, refunds_count, recipient_window = unpack(ARGV, 8, 10)
now = clock(now)
local limited_for = math.max(
  wait(sends, recipient_count, recipient_window, now), wait(sends, day_count, DAY, now), wait(user, user_count, HOUR, now),
  wait(ip, ip_count, HOUR, now), wait(network, network_count, HOUR, now), wait(all, all_count, HOUR, now),
  wait(wrong, wrong_count, HOUR, now), wait(refunds, refunds_count, DAY, now))
local cooldown_for = cooldown_left(cooldown, now)
local has_record = record and read_record(redis.call('GET', record), now) and 1 or 0
return table.concat({used(sends, recipient_window, now), used(sends, DAY, now), used(wrong, HOUR, now), decimal(limited_for),
  decimal(cooldown_for), has_record}, ' ')
