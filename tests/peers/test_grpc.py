#!/usr/bin/python3
"""gRPC's own implementation (grpcio) against ours, in both roles.

    test_grpc.py PEER_SERVER PEER_CLIENT

Generic handlers and stubs on bytes; no generated code. Exit 77 where grpcio is missing.
"""
import os
import subprocess
import sys
import tempfile
import threading
import time
import unittest
from concurrent import futures

try:
    import grpc
except ImportError:
    sys.exit(77)

PEER_SERVER, PEER_CLIENT = sys.argv[1:3]
RAW = '/var/lib/kubelet/device-plugins/t.sock'
ESCAPED = RAW.replace('/', '%2F')
NO_LIMIT = [('grpc.max_receive_message_length', -1), ('grpc.max_send_message_length', -1)]


def until(condition, seconds=10):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


class ForeignClient(unittest.TestCase):
    """grpcio's client, our server."""

    def setUp(self):
        self.dir = tempfile.TemporaryDirectory(prefix='tranche-peer-')
        self.path = os.path.join(self.dir.name, 's.sock')
        self.server = subprocess.Popen([PEER_SERVER, self.path], stdout=subprocess.PIPE, text=True)
        self.assertEqual(self.server.stdout.readline(), 'ready\n')
        self.channel = self.dial()

    def tearDown(self):
        self.channel.close()
        self.server.terminate()
        self.assertEqual(self.server.wait(10), 0)
        self.server.stdout.close()
        self.dir.cleanup()

    def dial(self, **options):
        given = [('grpc.' + name, value) for name, value in options.items()]
        return grpc.insecure_channel('unix:' + self.path, options=NO_LIMIT + given)

    def call(self, method, request=b'', channel=None, **how):
        how.setdefault('timeout', 20)
        return (channel or self.channel).unary_unary('/peer.Test/' + method)(request, **how)

    def stream(self, method, request=b'', **how):
        return self.channel.unary_stream('/peer.Test/' + method)(request, **how)

    def assert_fails(self, code, call):
        with self.assertRaises(grpc.RpcError) as caught:
            call()
        self.assertEqual(caught.exception.code(), code)
        return caught.exception.details()

    def test_unary_calls_are_answered(self):
        self.assertEqual(self.call('Echo', b'hello'), b'hello')
        self.assertEqual(self.call('Echo', b'', timeout=None), b'')
        self.assertEqual(self.call('Later', b'20'), b'later')
        self.assertEqual(int(self.call('Who')), os.getpid())

    def test_any_authority_is_served(self):
        for authority in 'localhost', RAW, ESCAPED:
            with self.dial(default_authority=authority) as channel:
                self.assertEqual(self.call('Echo', b'x', channel), b'x', authority)

    def test_big_messages_pass_both_ways(self):
        for size in 16384, 65535, 65536, 142500, 3900000:
            request = os.urandom(size)
            self.assertEqual(self.call('Echo', request), request)
        self.assertEqual(len(self.call('Big', b'5000000')), 5000000)

    def test_a_request_above_the_limit_is_refused_and_the_connection_lives_on(self):
        for _ in range(3):
            details = self.assert_fails(grpc.StatusCode.RESOURCE_EXHAUSTED,
                                        lambda: self.call('Echo', bytes(5000000)))
            self.assertIn('5000000 vs. 4194304', details)
        self.assertEqual(self.call('Echo', b'x'), b'x')

    def test_errors_keep_their_code_and_every_character(self):
        messages = ['plain', '100% of [a, b] "quoted"', 'two\nlines\ttab', 'café € 🐁',
                    '%41 is not A', '~}|{ \\ /']
        codes = {code.value[0]: code for code in grpc.StatusCode}
        for number in range(1, 17):
            message = messages[number % len(messages)]
            request = f'{number} {message}'.encode()
            self.assertEqual(self.assert_fails(codes[number], lambda: self.call('Fail', request)),
                             message)

    def test_unknown_methods_and_services_are_named(self):
        self.assertEqual(self.assert_fails(grpc.StatusCode.UNIMPLEMENTED,
                                           lambda: self.call('Nothing')),
                         'unknown method Nothing for service peer.Test')
        stub = self.channel.unary_unary('/no.Service/Call')
        self.assertEqual(self.assert_fails(grpc.StatusCode.UNIMPLEMENTED, lambda: stub(b'')),
                         'unknown service no.Service')

    def test_streams_bring_every_message_and_then_their_status(self):
        self.assertEqual(list(self.stream('Count', b'10')), [b'%d' % i for i in range(10)])
        call = self.stream('FailAfter')
        self.assertEqual(next(call), b'only')
        self.assertEqual(self.assert_fails(grpc.StatusCode.ABORTED, lambda: next(call)),
                         'in the middle')

    def test_a_compressed_request_is_refused(self):
        details = self.assert_fails(
            grpc.StatusCode.UNIMPLEMENTED,
            lambda: self.call('Echo', b'x' * 10000, compression=grpc.Compression.Gzip))
        self.assertIn('gzip', details)
        self.assertEqual(self.call('Echo', b'x'), b'x')

    def test_a_deadline_ends_the_call(self):
        self.assert_fails(grpc.StatusCode.DEADLINE_EXCEEDED, lambda: self.call('Hold', timeout=0.1))
        self.assertTrue(until(lambda: self.call('Cancels') == b'1'))

    def test_cancelling_reaches_the_handler(self):
        call = self.stream('Watch')
        self.assertEqual(next(call), b'first')
        call.cancel()
        self.assertTrue(until(lambda: self.call('Cancels') == b'1'))

    def test_a_client_that_leaves_cancels_its_calls(self):
        with self.dial(use_local_subchannel_pool=1) as other:
            call = other.unary_stream('/peer.Test/Watch')(b'')
            self.assertEqual(next(call), b'first')
        self.assertTrue(until(lambda: self.call('Cancels') == b'1'))

    def test_many_calls_at_a_time(self):
        stub = self.channel.unary_unary('/peer.Test/Later')
        calls = [stub.future(b'%d' % (i % 7), timeout=20) for i in range(400)]
        self.assertEqual({call.result() for call in calls}, {b'later'})

    def test_a_graceful_stop_finishes_what_runs(self):
        call = self.stream('Watch')
        self.assertEqual(next(call), b'first')
        slow = self.channel.unary_unary('/peer.Test/Later').future(b'300', timeout=20)
        until(lambda: self.call('Echo', b'x') == b'x')
        self.server.terminate()
        self.assertEqual(list(call), [])
        self.assertEqual(call.code(), grpc.StatusCode.OK)
        self.assertEqual(slow.result(), b'later')
        self.assertEqual(self.server.wait(10), 0)
        self.assertFalse(os.path.exists(self.path))
        self.assert_fails(grpc.StatusCode.UNAVAILABLE, lambda: self.call('Echo', timeout=5))


class Handler(grpc.GenericRpcHandler):
    """What peer_client.c asks for."""

    def __init__(self, restart):
        self.restart = restart
        self.cancelled = threading.Event()

    def service(self, details):
        name = details.method.rpartition('/')[2]
        unary = getattr(self, 'unary_' + name.lower(), None)
        stream = getattr(self, 'stream_' + name.lower(), None)
        if unary:
            return grpc.unary_unary_rpc_method_handler(unary)
        return grpc.unary_stream_rpc_method_handler(stream) if stream else None

    def unary_echo(self, request, context):
        return request

    def unary_big(self, request, context):
        return bytes(int(request))

    def unary_fail(self, request, context):
        number, _, message = request.decode().partition(' ')
        code = {code.value[0]: code for code in grpc.StatusCode}[int(number)]
        context.abort(code, message)

    def unary_hold(self, request, context):
        ended = threading.Event()
        context.add_callback(ended.set)
        ended.wait(10)
        return b''

    def unary_remaining(self, request, context):
        return b'%d' % (context.time_remaining() * 1000)

    def unary_waitforcancel(self, request, context):
        return b'cancelled' if self.cancelled.wait(5) else b'not cancelled'

    def unary_restart(self, request, context):
        self.restart.set()
        time.sleep(0.3)
        return b'goodbye'

    def stream_count(self, request, context):
        for i in range(int(request)):
            yield b'%d' % i

    def stream_failafter(self, request, context):
        yield b'only'
        context.abort(grpc.StatusCode.ABORTED, 'in the middle')

    def stream_watch(self, request, context):
        context.add_callback(self.cancelled.set)
        yield b'first'
        self.cancelled.wait(10)


class ForeignServer(unittest.TestCase):
    """grpcio's server, our client."""

    def serve(self, path, restart):
        server = grpc.server(futures.ThreadPoolExecutor(16),
                             options=[('grpc.max_send_message_length', -1)])
        server.add_generic_rpc_handlers((Handler(restart),))
        self.assertEqual(server.add_insecure_port('unix:' + path), 1)
        server.start()
        return server

    def keep_serving(self, path, done):
        while not done.is_set():
            restart = threading.Event()
            server = self.serve(path, restart)
            while not restart.wait(0.05) and not done.is_set():
                pass
            server.stop(2).wait()

    def run_client(self, authority):
        with tempfile.TemporaryDirectory(prefix='tranche-peer-') as directory:
            path = os.path.join(directory, 's.sock')
            done = threading.Event()
            keeper = threading.Thread(target=self.keep_serving, args=(path, done))
            keeper.start()
            try:
                self.assertTrue(until(lambda: os.path.exists(path)))
                env = dict(os.environ, PEER_SOCKET=path, PEER_AUTHORITY=authority)
                client = subprocess.run([PEER_CLIENT], env=env, timeout=100, text=True,
                                        stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
                self.assertEqual(client.returncode, 0, client.stdout)
            finally:
                done.set()
                keeper.join()

    def test_our_client_understands_it(self):
        self.run_client('localhost')

    def test_our_client_may_send_a_path_as_authority(self):
        for authority in RAW, ESCAPED:
            self.run_client(authority)


if __name__ == '__main__':
    unittest.main(argv=sys.argv[:1] + sys.argv[3:], verbosity=2)
