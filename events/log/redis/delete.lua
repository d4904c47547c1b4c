-- Deletes one topic. ARGV: the writer's name, the number of its group, the topic. Returns '' or the epoch it had.
-- Its idempotency keys bear the epoch of its birth, so those of a topic made anew are others.
local receipt = receipt_of(ARGV[1], tonumber(ARGV[2]))
if receipt then return receipt end
local s = load_topic(ARGV[3])
if s.epoch == '' then return '' end
drop_topic(s)
publish(ARGV[1], {{s.name, s.epoch, 0, false, 0, 0}})
return keep_receipt(ARGV[1], tonumber(ARGV[2]), s.epoch)
