"""Small word lists for secrets made of words, `{word:NAME}` in a format.

Words are lower-case ASCII letters and distinct, and no word of a list begins another one of it: a secret that ends in
such a word needs no suffix. A list of 64 words gives 6 bits a word, one of 256 words 8.
"""

from collections.abc import Mapping

_COLORS = """
amber apricot aqua ash azure beige black blue blush bone brass brick bronze brown buff carmine cerise charcoal cherry
chestnut cobalt copper coral cream crimson cyan denim ebony ecru emerald fawn flax fuchsia garnet gold gray green
indigo ivory jade khaki lavender lemon lilac lime magenta maroon mauve mint navy ochre olive orange orchid peach pearl
pink plum purple red ruby russet rust saffron salmon sand sapphire scarlet sepia silver slate steel tan taupe teal
topaz turquoise umber violet white
"""

_ANIMALS = """
aardvark adder albatross alpaca ant badger barracuda bat bear beaver bee bison boar bobcat buffalo butterfly buzzard
camel canary capybara caribou carp cat cheetah chicken chimpanzee chinchilla chipmunk cicada clam cobra cockatoo cod
condor cougar cow coyote crab crane cricket crocodile crow cuckoo deer dingo dog dolphin donkey dove dragonfly duck
eagle eel egret elephant elk emu falcon ferret finch firefly flamingo fox frog gazelle gecko gerbil gibbon giraffe gnu
goat goose gopher gorilla grasshopper grouse gull hamster hare hawk hedgehog heron herring hippo hornet horse hound
hyena ibex ibis iguana impala jackal jaguar jay jellyfish kangaroo kestrel kingfisher kiwi koala lark lemming lemur
leopard lion lizard llama lobster lynx macaw magpie mallard manatee marmot marten meerkat mink mole mongoose monkey
moose moth mouse mule octopus otter owl
"""

_FOODS = """
almond apple artichoke asparagus aubergine avocado banana barley basil bean beet blackberry blueberry broccoli cabbage
carrot cashew cauliflower celery chard chickpea chicory chive cinnamon clementine clove coconut coriander corn
cranberry cucumber currant date dill elderberry endive fennel fig garlic ginger gooseberry grape guava hazelnut kale
kumquat leek lentil lettuce lychee mandarin mango marjoram melon millet mulberry mushroom mustard nectarine nutmeg oat
okra onion oregano papaya parsley parsnip pear pecan pepper persimmon pineapple pistachio pomegranate potato
pumpkin quince radish raisin raspberry rhubarb rice rosemary rye sage shallot sorrel spinach squash strawberry
tangerine tarragon turnip walnut yam zucchini
"""

_OBJECTS = """
abacus anchor anvil apron arrow awl axe bagpipe balloon banner barrel basket battery beaker bell belt bench bicycle
binder blanket boat bobbin bolt book boomerang boot bottle bowl bracelet brick bridge brooch broom brush bucket bugle
button cabinet cable candle canoe carpet cart cello chain chair chalk chest chisel clamp cleaver clip clock coat coin
comb compass cord cork couch crate crayon crib crown cup curtain cushion cymbal dagger desk dial diary dice doll door
drape drawer drill drum duster earring easel engine envelope fan faucet feather fence fiddle file flag flask flint
flute folder fork fountain frame funnel gate gavel globe glove goblet gong grate griddle guitar hammer hammock harness
harp hat helmet hinge hook horn hose inkwell jacket jar joystick jug keg kettle key kite knife ladder ladle lamp
lantern lens lever lock loom magnet mallet map marble mask mast mirror mitten mop mug nail necklace needle net
notebook oar oven paddle pan pencil piano pillow pipe plate pliers plow pocket pot pulley purse quilt rack radio rake
razor ribbon ring robe rope rudder ruler saddle sail saw scarf scissors screw shelf shield shovel sieve skate sled
sock spade spoon stamp stapler stool stove strap sword table tent thimble thread ticket tile torch towel tower toy
tray trowel trumpet trunk umbrella vase violin wagon wallet wheel whistle wick window wire wrench zipper
"""

_PLACES = """
abbey alley arena atoll avenue bakery bank barn bay bazaar beach bog boulevard brook cabin camp canal canyon cape
castle cathedral cave cellar chapel church cinema city cliff coast college cottage court cove crater creek crossing
dairy dam delta depot desert dock dune embassy estate factory farm ferry field fjord forest fort forum gallery garage
garden geyser glacier glen gorge grove gulf hamlet harbor heath highway hill hollow hospital hostel hotel house hut
inlet inn island jungle kiosk lagoon lake library lighthouse lodge manor market marsh meadow mesa mill mine moor
mosque mountain museum oasis ocean office orchard palace park pasture path peak pier plain plateau plaza pond port
prairie pub quarry ravine reef resort ridge river road ruin school shed shore shrine spring square stable stadium
station
"""

_VERBS = """
admire answer arrange arrive attach bake balance begin believe borrow bounce breathe bring build bury buy call carry
carve catch celebrate choose clap clean climb close collect compare cook copy count cover cross dance decide deliver
describe dig discover divide dream drift drive drop earn eat enjoy enter examine explain explore fasten fetch fill
find finish fix float flow fold follow forget forgive gather give glide greet grow guard guess guide hang hear help
hide hold hum hunt imagine improve invent invite join juggle jump keep kick knit knock laugh lean learn leave lend
lift listen look march measure meet melt mend mix move notice offer open order pack paint pass pay plant play point
polish pour praise prepare press promise pull push reach read repair rest return
"""

BUILTIN_WORD_LISTS: Mapping[str, tuple[str, ...]] = {
    "colors": tuple(_COLORS.split()),
    "animals": tuple(_ANIMALS.split()),
    "foods": tuple(_FOODS.split()),
    "objects": tuple(_OBJECTS.split()),
    "places": tuple(_PLACES.split()),
    "verbs": tuple(_VERBS.split()),
}
"""Name of a list -> its words, in alphabetical order."""
