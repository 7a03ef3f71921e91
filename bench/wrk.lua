-- What wrk sends: the requests of a file, which NULs divide, each in its turn. A nonce in a request is another one each
-- time it goes out. The last line that is printed says what was counted.

local requests, turn, nonces = {}, 0, 0

function init(args)
	local file = assert(io.open(args[1], "rb"))
	for text in file:read("*a"):gmatch("%Z+") do
		local head, tail = text:match('^(.*"nonce":")%x+(".*)$')
		requests[#requests + 1] = { head = head or text, tail = tail }
	end
	file:close()
end

function request()
	turn = turn % #requests + 1
	local head, tail = requests[turn].head, requests[turn].tail
	if not tail then return head end
	nonces = nonces + 1
	return head .. string.format("ffff%020x", nonces) .. tail
end

function done(summary)
	local failed = 0
	for _, count in pairs(summary.errors) do failed = failed + count end
	local line = '{"done":%d,"seconds":%.6f,"failed":%d}\n'
	io.write(line:format(summary.requests, summary.duration / 1e6, failed))
end
