import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.util.concurrent.TimeUnit;
import software.amazon.awssdk.http.Protocol;
import software.amazon.awssdk.http.nio.netty.NettyNioAsyncHttpClient;
import software.amazon.awssdk.regions.Region;
import software.amazon.awssdk.services.cloudwatch.CloudWatchAsyncClient;
import software.amazon.awssdk.services.dynamodb.DynamoDbAsyncClient;
import software.amazon.awssdk.services.kinesis.KinesisAsyncClient;
import software.amazon.kinesis.common.ConfigsBuilder;
import software.amazon.kinesis.common.InitialPositionInStream;
import software.amazon.kinesis.common.InitialPositionInStreamExtended;
import software.amazon.kinesis.coordinator.Scheduler;
import software.amazon.kinesis.lifecycle.events.InitializationInput;
import software.amazon.kinesis.lifecycle.events.LeaseLostInput;
import software.amazon.kinesis.lifecycle.events.ProcessRecordsInput;
import software.amazon.kinesis.lifecycle.events.ShardEndedInput;
import software.amazon.kinesis.lifecycle.events.ShutdownRequestedInput;
import software.amazon.kinesis.metrics.NullMetricsFactory;
import software.amazon.kinesis.processor.RecordProcessorCheckpointer;
import software.amazon.kinesis.processor.ShardRecordProcessor;
import software.amazon.kinesis.processor.SingleStreamTracker;
import software.amazon.kinesis.retrieval.KinesisClientRecord;
import software.amazon.kinesis.retrieval.polling.PollingConfig;

/**
 * A worker of the real KCL that tells what it does, one event a line, on standard output:
 * "started SHARD SEQUENCE", "record SHARD SEQUENCE DATA", "ended SHARD", "lost SHARD", "stopped".
 * A line on standard input, or its end, asks for a graceful shutdown.
 *
 * Arguments: application, stream, Kinesis endpoint, DynamoDB endpoint, worker id, failover in ms.
 */
public class KclWorker {
    public static void main(String[] arguments) throws Exception {
        String application = arguments[0];
        String stream = arguments[1];
        String workerId = arguments[4];
        Region region = Region.US_EAST_1;
        NettyNioAsyncHttpClient.Builder http =
                NettyNioAsyncHttpClient.builder().protocol(Protocol.HTTP1_1);
        KinesisAsyncClient kinesis = KinesisAsyncClient.builder().region(region)
                .endpointOverride(URI.create(arguments[2])).httpClientBuilder(http).build();
        DynamoDbAsyncClient dynamo = DynamoDbAsyncClient.builder().region(region)
                .endpointOverride(URI.create(arguments[3])).httpClientBuilder(http).build();
        // Never called: the metrics go nowhere.
        CloudWatchAsyncClient cloudWatch = CloudWatchAsyncClient.builder().region(region)
                .endpointOverride(URI.create("http://127.0.0.1:9")).httpClientBuilder(http).build();

        ConfigsBuilder configs = new ConfigsBuilder(
                new SingleStreamTracker(stream, InitialPositionInStreamExtended
                        .newInitialPosition(InitialPositionInStream.TRIM_HORIZON)),
                application, kinesis, dynamo, cloudWatch, workerId, Teller::new);
        PollingConfig polling = new PollingConfig(stream, kinesis);
        polling.idleTimeBetweenReadsInMillis(250);
        Scheduler scheduler = new Scheduler(
                configs.checkpointConfig(),
                configs.coordinatorConfig().parentShardPollIntervalMillis(500),
                configs.leaseManagementConfig()
                        .failoverTimeMillis(Long.parseLong(arguments[5]))
                        .shardSyncIntervalMillis(2000)
                        .leasesRecoveryAuditorExecutionFrequencyMillis(2000),
                configs.lifecycleConfig(),
                configs.metricsConfig().metricsFactory(new NullMetricsFactory()),
                configs.processorConfig(),
                configs.retrievalConfig().retrievalSpecificConfig(polling));
        Thread runner = new Thread(scheduler, "scheduler");
        runner.setDaemon(true);
        runner.start();
        new BufferedReader(new InputStreamReader(System.in)).readLine();
        scheduler.startGracefulShutdown().get(60, TimeUnit.SECONDS);
        runner.join(30_000);
        tell("stopped");
        System.exit(0);
    }

    static synchronized void tell(String event) {
        System.out.println(event);
        System.out.flush();
    }

    static class Teller implements ShardRecordProcessor {
        private String shard;

        public void initialize(InitializationInput input) {
            shard = input.shardId();
            tell("started " + shard + " " + input.extendedSequenceNumber().sequenceNumber());
        }

        public void processRecords(ProcessRecordsInput input) {
            for (KinesisClientRecord record : input.records()) {
                tell("record " + shard + " " + record.sequenceNumber() + " "
                        + StandardCharsets.UTF_8.decode(record.data()));
            }
            checkpoint(input.checkpointer());
        }

        public void leaseLost(LeaseLostInput input) {
            tell("lost " + shard);
        }

        public void shardEnded(ShardEndedInput input) {
            checkpoint(input.checkpointer());
            tell("ended " + shard);
        }

        public void shutdownRequested(ShutdownRequestedInput input) {
            checkpoint(input.checkpointer());
        }

        private static void checkpoint(RecordProcessorCheckpointer checkpointer) {
            try {
                checkpointer.checkpoint();
            } catch (Exception error) {
                tell("failed " + error);
            }
        }
    }
}
