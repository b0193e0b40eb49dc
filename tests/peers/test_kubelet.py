#!/usr/bin/python3
"""gRPC's own implementation (grpcio) in the kubelet's place, the real agent on a simulated node.

    test_kubelet.py TRANCHE

Messages are taken apart here by hand, so that nothing of ours checks itself. Exit 77 where grpcio
is missing.
"""
import os
import shutil
import signal
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

TRANCHE = os.path.abspath(sys.argv[1])
DEVICE_PLUGIN = '/v1beta1.DevicePlugin/'


# ---- protobuf, as far as these messages go ----

def varint(value):
    out = b''
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def field(number, value):
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    if isinstance(value, str):
        value = value.encode()
    return varint(number << 3 | 2) + varint(len(value)) + value


def parse(data):
    """{field number: [values]}; numbers as int, the rest as bytes."""
    fields, at = {}, 0

    def number():
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while at < len(data):
        tag = number()
        if tag & 7 == 0:
            value = number()
        else:
            assert tag & 7 == 2, tag
            size = number()
            value = data[at:at + size]
            at += size
        fields.setdefault(tag >> 3, []).append(value)
    return fields


def text(fields, number):
    return fields.get(number, [b''])[-1].decode()


def devices(message):
    """[(id, health, [NUMA nodes] or None)]"""
    result = []
    for device in map(parse, parse(message).get(1, [])):
        nodes = None
        if 3 in device:
            nodes = [parse(node).get(1, [0])[0] for node in parse(device[3][0]).get(1, [])]
        result.append((text(device, 1), text(device, 2), nodes))
    return result


def entries(messages):
    return {text(parse(entry), 1): text(parse(entry), 2) for entry in messages}


# ---- the kubelet ----

class Kubelet:
    def __init__(self, directory):
        self.directory = directory
        self.registrations = []
        self.authority = None
        self.refuse = None
        handler = grpc.method_handlers_generic_handler('v1beta1.Registration', {
            'Register': grpc.unary_unary_rpc_method_handler(self.register)})
        for name in os.listdir(directory):
            if name.endswith('.sock'):
                os.unlink(os.path.join(directory, name))
        self.server = grpc.server(futures.ThreadPoolExecutor(4))
        self.server.add_generic_rpc_handlers((handler,))
        self.server.add_insecure_port('unix:' + os.path.join(directory, 'kubelet.sock'))
        self.server.start()

    def register(self, request, context):
        if self.refuse:
            context.abort(grpc.StatusCode.UNKNOWN, self.refuse)
        self.registrations.append(parse(request))
        return b''

    def stop(self):
        self.server.stop(0).wait()


class Plugin:
    """The kubelet's side of one registration."""

    def __init__(self, directory, endpoint, authority):
        options = [('grpc.default_authority', authority)] if authority else []
        self.channel = grpc.insecure_channel('unix:' + os.path.join(directory, endpoint), options)
        self.lists, self.ended = [], None
        self.stream = self.channel.unary_stream(DEVICE_PLUGIN + 'ListAndWatch')(b'')
        self.thread = threading.Thread(target=self.follow)
        self.thread.start()

    def follow(self):
        try:
            for message in self.stream:
                self.lists.append(devices(message))
            self.ended = grpc.StatusCode.OK
        except grpc.RpcError as error:
            self.ended = error.code()

    def call(self, method, request=b''):
        return self.channel.unary_unary(DEVICE_PLUGIN + method)(request, timeout=10)

    def close(self):
        self.stream.cancel()
        self.thread.join()
        self.channel.close()


def until(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise AssertionError('this did not come about')
        time.sleep(0.01)


class ForeignKubelet(unittest.TestCase):
    authority = 'localhost'

    def setUp(self):
        self.dir = tempfile.mkdtemp(prefix='tranche-kubelet-')
        self.plugins = os.path.join(self.dir, 'plugins')
        os.mkdir(self.plugins)
        self.env = {'PATH': os.environ['PATH'], 'TRANCHE_SIM': self.dir + '/sim',
                    'ASAN_OPTIONS': os.environ.get('ASAN_OPTIONS', ''),
                    'KUBELET_SOCKET': self.plugins + '/kubelet.sock'}
        self.sim('create', '--gpus', '4xh100-80gb')
        os.symlink(TRANCHE, self.dir + '/nvidia-device-plugin')
        self.kubelet = Kubelet(self.plugins)
        self.agent = self.plugin = None

    def tearDown(self):
        if self.agent and self.agent.poll() is None:
            self.agent.terminate()
            self.assertEqual(self.agent.wait(10), 0)
        if self.plugin:
            self.plugin.close()
        self.kubelet.stop()
        shutil.rmtree(self.dir)

    def sim(self, *words):
        subprocess.run([TRANCHE, 'sim', *words], env=self.env, check=True,
                       stdout=subprocess.DEVNULL)

    def start(self, config=None):
        if config:
            with open(self.dir + '/config.yaml', 'w') as file:
                file.write(config)
            self.env['CONFIG_FILE'] = self.dir + '/config.yaml'
        self.agent = subprocess.Popen([self.dir + '/nvidia-device-plugin'], env=self.env,
                                      stderr=subprocess.DEVNULL)
        return self.follow()

    def follow(self, n=1):
        authority = self.authority or self.plugins + '/nvidia-gpu.sock'
        until(lambda: len(self.kubelet.registrations) >= n)
        if self.plugin:
            self.plugin.close()
        endpoint = text(self.kubelet.registrations[n - 1], 2)
        self.plugin = Plugin(self.plugins, endpoint, authority)
        until(lambda: self.plugin.lists)
        return self.plugin

    def allocate(self, *ids):
        request = field(1, b''.join(field(1, one) for one in ids))
        [container] = parse(self.plugin.call('Allocate', request))[1]
        return entries(parse(container).get(1, []))

    def test_a_registration_says_what_a_kubelet_needs_to_know(self):
        self.start()
        [request] = self.kubelet.registrations
        self.assertEqual(text(request, 1), 'v1beta1')
        self.assertEqual(text(request, 2), 'nvidia-gpu.sock')
        self.assertEqual(text(request, 3), 'nvidia.com/gpu')
        self.assertEqual(parse(request[4][0]), {2: [1]})
        self.assertEqual(parse(self.plugin.call('GetDevicePluginOptions')), {2: [1]})

    def test_devices_have_ids_health_and_numa_nodes(self):
        plugin = self.start()
        self.assertEqual(len(plugin.lists[0]), 4)
        for identity, health, nodes in plugin.lists[0]:
            self.assertRegex(identity, '^GPU-[0-9a-f-]{36}$')
            self.assertEqual(health, 'Healthy')
            self.assertIn(nodes, ([0], [1]))
        self.assertIn([0], [nodes for _, _, nodes in plugin.lists[0]])

    def test_an_allocation_names_the_devices(self):
        plugin = self.start()
        first, second = (plugin.lists[0][i][0] for i in (2, 0))
        self.assertEqual(self.allocate(first, second),
                         {'NVIDIA_VISIBLE_DEVICES': first + ',' + second})
        self.assertEqual(self.allocate(), {'NVIDIA_VISIBLE_DEVICES': ''})
        self.assertEqual(self.plugin.call('PreStartContainer', field(1, first)), b'')

    def test_a_preference_comes_from_what_is_available(self):
        plugin = self.start()
        ids = [device[0] for device in plugin.lists[0]]
        request = field(1, b''.join(field(1, one) for one in ids) + field(3, 2))
        [container] = parse(plugin.call('GetPreferredAllocation', request))[1]
        chosen = [one.decode() for one in parse(container)[1]]
        self.assertEqual(len(set(chosen)), 2)
        self.assertTrue(set(chosen) <= set(ids))

    def test_a_refusal_reads_as_upstream_words_it(self):
        self.start()
        with self.assertRaises(grpc.RpcError) as caught:
            self.allocate('GPU-zzz')
        self.assertEqual(caught.exception.code(), grpc.StatusCode.UNKNOWN)
        self.assertEqual(caught.exception.details(),
                         'invalid allocation request for "nvidia.com/gpu": invalid request: '
                         'unknown device: GPU-zzz')

    def test_a_long_list_arrives_whole(self):
        plugin = self.start('sharing: {timeSlicing: {resources: '
                            '[{name: nvidia.com/gpu, replicas: 10000}]}}')
        self.assertEqual(len(plugin.lists[0]), 40000)
        self.assertEqual(len({device[0] for device in plugin.lists[0]}), 40000)

    def test_a_lost_gpu_is_told_on_the_open_stream(self):
        plugin = self.start()
        self.sim('xid', '1', '79')
        until(lambda: [device[1] for device in plugin.lists[-1]].count('Unhealthy') == 1)
        self.assertEqual(len(self.kubelet.registrations), 1)

    def test_a_new_kubelet_is_registered_with(self):
        self.start()
        for n in range(2, 4):
            self.kubelet.stop()
            registrations = self.kubelet.registrations
            self.kubelet = Kubelet(self.plugins)
            self.kubelet.registrations = registrations
            until(lambda: len(self.kubelet.registrations) >= n)
            self.assertEqual(len(self.follow(n).lists[0]), 4)

    def test_a_refused_registration_is_repeated(self):
        self.kubelet.refuse = 'not today'
        self.agent = subprocess.Popen([self.dir + '/nvidia-device-plugin'], env=self.env,
                                      stderr=subprocess.DEVNULL)
        time.sleep(0.3)
        self.kubelet.refuse = None
        self.assertEqual(len(self.follow().lists[0]), 4)

    def test_the_end_is_a_good_one(self):
        plugin = self.start()
        self.agent.send_signal(signal.SIGTERM)
        self.assertEqual(self.agent.wait(10), 0)
        plugin.thread.join(10)
        self.assertEqual(plugin.ended, grpc.StatusCode.OK)
        self.assertFalse(os.path.exists(self.plugins + '/nvidia-gpu.sock'))


class OldKubelet(ForeignKubelet):
    """The path of the socket for an authority, as kubelet 1.20 says it."""
    authority = None


if __name__ == '__main__':
    unittest.main(argv=sys.argv[:1], verbosity=2)
