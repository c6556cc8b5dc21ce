-- How much of its limits a recipient, its user and its client have used. Charges nothing.
-- KEYS  sends, refunds, cooldown, all, user, ip, wrong, and the record if it is asked about one
local now, number_count, number_window, day_count, user_count, ip_count, all_count, wrong_count, refunds_count = unpack(ARGV)
now = clock(now)
local longest = math.max(
  wait(KEYS[1], number_count, number_window, now), wait(KEYS[1], day_count, DAY, now), wait(KEYS[2], refunds_count, DAY, now),
  wait(KEYS[4], all_count, HOUR, now), wait(KEYS[5], user_count, HOUR, now), wait(KEYS[6], ip_count, HOUR, now),
  wait(KEYS[7], wrong_count, HOUR, now))
local cooldown = cooling(KEYS[3], redis.call('GET', KEYS[3]), now)
local known = KEYS[8] and read(redis.call('GET', KEYS[8]), now) and 1 or 0
return table.concat({used(KEYS[1], number_window, now), used(KEYS[1], DAY, now), used(KEYS[7], HOUR, now),
  ms(longest), ms(cooldown), known}, ' ')
