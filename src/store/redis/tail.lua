
-- The end of the script: every operation there is has been named by now, and the one that was asked for is done.

enter()
local answer = { ops[OP](unpack(ARGV, 5)) }
call('HSET', G, unpack(changed))
table.insert(answer, 1, now)
return answer
