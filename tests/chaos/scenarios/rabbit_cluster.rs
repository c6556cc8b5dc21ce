//! Three nodes of RabbitMQ under load: a node dies, two die, one freezes, all are restarted one by one, one has an alarm.
